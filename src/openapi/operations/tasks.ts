/** Files, models, jobs and tasks. */
import { z } from 'zod'
import {
  adapterFormatSchema,
  promoteSchema,
  retireSchema,
  rollbackSchema,
  taskPageSchema,
  updateVersionSchema,
  uploadedVersionSchema,
  versionPageSchema,
} from '../../protocol/arcana/tasks.ts'
import { filesPageSchema } from '../../protocol/openai/files.ts'
import {
  checkpointsQuerySchema,
  createJobSchema,
  eventsQuerySchema,
  jobsQuerySchema,
  publishJobSchema,
} from '../../protocol/openai/fine-tuning.ts'
import { metadataSchema } from '../../protocol/openai/metadata.ts'
import { modelPageSchema } from '../../protocol/openai/models.ts'
import { deletedOf, pageOf } from '../answers/common.ts'
import { fineTuningJob, jobCheckpoint, jobEvent } from '../answers/job.ts'
import { file, model, task, taskVersion, taskWithVersions } from '../answers/task.ts'
import { byId, json, RUNNER_ERRORS, type Operation } from '../operation.ts'

const uploadedFile = { type: 'string', contentMediaType: 'application/octet-stream' }

const files: readonly Operation[] = [
  {
    method: 'POST',
    path: '/v1/files',
    id: 'createFile',
    tag: 'Files',
    summary: 'Upload examples, or requests of a batch',
    description: 'JSON lines, each checked as it comes. If a line is invalid, nothing is kept.',
    body: {
      kind: 'form',
      schema: {
        type: 'object',
        properties: {
          file: uploadedFile,
          purpose: { type: 'string', enum: ['fine-tune', 'batch'] },
        },
        required: ['file', 'purpose'],
        additionalProperties: false,
      },
    },
    links: byId('id', 'getFile', 'downloadFile', 'deleteFile'),
    answer: json('File', file),
  },
  {
    method: 'GET',
    path: '/v1/files',
    id: 'listFiles',
    tag: 'Files',
    summary: 'List files',
    query: filesPageSchema,
    answer: json('FileList', pageOf(file)),
  },
  {
    method: 'GET',
    path: '/v1/files/:id',
    id: 'getFile',
    tag: 'Files',
    summary: 'Get a file',
    answer: json('File', file),
  },
  {
    method: 'GET',
    path: '/v1/files/:id/content',
    id: 'downloadFile',
    tag: 'Files',
    summary: "Download a file's content",
    answer: { kind: 'bytes', contentTypes: ['application/octet-stream'] },
  },
  {
    method: 'DELETE',
    path: '/v1/files/:id',
    id: 'deleteFile',
    tag: 'Files',
    summary: 'Delete a file',
    answer: json('DeletedFile', deletedOf('file')),
  },
]

const models: readonly Operation[] = [
  {
    method: 'GET',
    path: '/v1/models',
    id: 'listModels',
    tag: 'Models',
    summary: 'List base models and tasks',
    query: modelPageSchema,
    links: {
      getModel: { id: '$response.body#/data/0/id' },
      deleteModel: { id: '$response.body#/data/1/id' },
    },
    answer: json('ModelList', pageOf(model)),
    errors: [404],
  },
  {
    method: 'GET',
    path: '/v1/models/:id',
    id: 'getModel',
    tag: 'Models',
    summary: 'Get a base model, a task, a version or a sum of tasks',
    answer: json('Model', model),
  },
  {
    method: 'DELETE',
    path: '/v1/models/:id',
    id: 'deleteModel',
    tag: 'Models',
    summary: 'Delete a task by its model id',
    answer: json('DeletedModel', deletedOf('model')),
  },
]

const jobs: readonly Operation[] = [
  {
    method: 'POST',
    path: '/v1/fine_tuning/jobs',
    id: 'createJob',
    tag: 'Jobs',
    summary: 'Learn a task from a file of examples',
    body: { kind: 'json', name: 'CreateJob', schema: createJobSchema },
    links: byId('id', 'getJob', 'listJobEvents', 'listJobCheckpoints', 'cancelJob', 'publishJob'),
    answer: json('FineTuningJob', fineTuningJob),
    errors: [404, 409, 429, ...RUNNER_ERRORS],
  },
  {
    method: 'GET',
    path: '/v1/fine_tuning/jobs',
    id: 'listJobs',
    tag: 'Jobs',
    summary: 'List jobs',
    query: jobsQuerySchema.extend({ metadata: metadataSchema.optional() }),
    answer: json('FineTuningJobList', pageOf(fineTuningJob)),
  },
  {
    method: 'GET',
    path: '/v1/fine_tuning/jobs/:id',
    id: 'getJob',
    tag: 'Jobs',
    summary: 'Get a job with its report',
    answer: json('FineTuningJob', fineTuningJob),
  },
  {
    method: 'GET',
    path: '/v1/fine_tuning/jobs/:id/events',
    id: 'listJobEvents',
    tag: 'Jobs',
    summary: "List a job's events, newest first",
    query: eventsQuerySchema,
    answer: json('JobEventList', pageOf(jobEvent)),
  },
  {
    method: 'GET',
    path: '/v1/fine_tuning/jobs/:id/checkpoints',
    id: 'listJobCheckpoints',
    tag: 'Jobs',
    summary: 'List the versions that a job published',
    query: checkpointsQuerySchema,
    answer: json('JobCheckpointList', pageOf(jobCheckpoint)),
  },
  {
    method: 'POST',
    path: '/v1/fine_tuning/jobs/:id/cancel',
    id: 'cancelJob',
    tag: 'Jobs',
    summary: 'Cancel a job',
    answer: json('FineTuningJob', fineTuningJob),
  },
  {
    method: 'POST',
    path: '/v1/fine_tuning/jobs/:id/publish',
    id: 'publishJob',
    tag: 'Jobs',
    summary: 'Publish a version that the guard kept back',
    body: { kind: 'json', name: 'PublishJob', schema: publishJobSchema },
    answer: json('FineTuningJob', fineTuningJob),
  },
]

const tasks: readonly Operation[] = [
  {
    method: 'GET',
    path: '/v1/tasks',
    id: 'listTasks',
    tag: 'Tasks',
    summary: 'List tasks',
    query: taskPageSchema,
    links: {
      getTask: { name: '$response.body#/data/0/id' },
      promoteVersion: { name: '$response.body#/data/0/id' },
      downloadAdapter: {
        name: '$response.body#/data/0/id',
        version: '$response.body#/data/0/live_version',
      },
      deleteTask: { name: '$response.body#/data/0/id' },
    },
    answer: json('TaskList', pageOf(task)),
  },
  {
    method: 'GET',
    path: '/v1/tasks/:name',
    id: 'getTask',
    tag: 'Tasks',
    summary: 'Get a task with its versions',
    answer: json('TaskWithVersions', taskWithVersions),
  },
  {
    method: 'DELETE',
    path: '/v1/tasks/:name',
    id: 'deleteTask',
    tag: 'Tasks',
    summary: 'Delete a task',
    answer: json('DeletedTask', deletedOf('arcana.task')),
  },
  {
    method: 'POST',
    path: '/v1/tasks/:name/promote',
    id: 'promoteVersion',
    tag: 'Tasks',
    summary: 'Make a version live',
    description: 'Refused with 409 if another version than `expected_live` is live.',
    body: { kind: 'json', name: 'PromoteVersion', schema: promoteSchema },
    answer: json('Task', task),
    errors: [409],
  },
  {
    method: 'POST',
    path: '/v1/tasks/:name/rollback',
    id: 'rollBackTask',
    tag: 'Tasks',
    summary: 'Make the version live again that was live before',
    description:
      'Refused with 409 if another version than `expected_live` is live, or none was before.',
    body: { kind: 'json', name: 'RollBackTask', schema: rollbackSchema },
    answer: json('Task', task),
    errors: [409],
  },
  {
    method: 'GET',
    path: '/v1/tasks/:name/versions',
    id: 'listVersions',
    tag: 'Tasks',
    summary: "List a task's versions",
    query: versionPageSchema,
    answer: json('TaskVersionList', pageOf(taskVersion)),
  },
  {
    method: 'GET',
    path: '/v1/tasks/:name/versions/:version',
    id: 'getVersion',
    tag: 'Tasks',
    summary: 'Get a version with its report',
    answer: json('TaskVersion', taskVersion),
  },
  {
    method: 'POST',
    path: '/v1/tasks/:name/versions/:version',
    id: 'updateVersion',
    tag: 'Tasks',
    summary: "Change a version's tags and notes",
    body: { kind: 'json', name: 'UpdateVersion', schema: updateVersionSchema },
    answer: json('TaskVersion', taskVersion),
  },
  {
    method: 'POST',
    path: '/v1/tasks/:name/versions/:version/retire',
    id: 'retireVersion',
    tag: 'Tasks',
    summary: 'Retire a version, or take its retirement back',
    body: { kind: 'json', name: 'RetireVersion', schema: retireSchema },
    answer: json('TaskVersion', taskVersion),
  },
  {
    method: 'POST',
    path: '/v1/tasks/:name/versions',
    id: 'createVersion',
    tag: 'Tasks',
    summary: 'Upload an adapter as a new version',
    body: {
      kind: 'form',
      schema: {
        type: 'object',
        properties: {
          file: uploadedFile,
          format: { type: 'string', enum: adapterFormatSchema.options },
          version: {
            type: 'string',
            contentMediaType: 'application/json',
            contentSchema: z.toJSONSchema(uploadedVersionSchema, { io: 'input' }),
          },
        },
        required: ['file'],
        additionalProperties: false,
      },
    },
    answer: json('TaskVersion', taskVersion),
    errors: [409, ...RUNNER_ERRORS],
  },
  {
    method: 'GET',
    path: '/v1/tasks/:name/versions/:version/adapter',
    id: 'downloadAdapter',
    tag: 'Tasks',
    summary: "Download a version's adapter",
    query: z.object({ format: adapterFormatSchema.default('arcana') }),
    answer: {
      kind: 'bytes',
      contentTypes: ['application/octet-stream', 'application/zip'],
      headers: { 'x-arcana-adapter': "The adapter's digest." },
    },
  },
]

export const learning: readonly Operation[] = [...files, ...models, ...jobs, ...tasks]
