import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { findFile } from '../db/files.ts'
import { findJob, listJobs } from '../db/jobs.ts'
import type { Bindings } from '../env.ts'
import { readJsonObject } from '../http/read-json.ts'
import { buildFittedDatasets } from '../jobs/fit-context.ts'
import type { JobObject } from '../jobs/job-object.ts'
import type { JobSpec, StoredDataset } from '../jobs/job-spec.ts'
import type { ObjectiveKind } from '../jobs/step.ts'
import { readExamples } from '../jobs/read-examples.ts'
import { objectiveOf } from '../jobs/objectives/objectives.ts'
import { searchOf, settleHyperparameters } from '../jobs/searches/searches.ts'
import { checkGrader } from '../jobs/rewards/check-grader.ts'
import type { RewardSet } from '../jobs/rewards/reward-set.ts'
import { ApiError, invalidRequest, notFound } from '../protocol/openai/error.ts'
import { pageQuerySchema, toPage } from '../protocol/openai/files.ts'
import {
  createJobSchema,
  publishJobSchema,
  readMetadataFilter,
  type CreateJob,
} from '../protocol/openai/fine-tuning.ts'
import { chooseOptimiser, findForeign } from '../protocol/openai/hyperparameters.ts'
import { DEFAULT_BETA } from '../protocol/openai/objective.ts'
import { parseWire } from '../protocol/parse.ts'
import type { Dataset } from '../protocol/runner-scoring.ts'
import type { Config } from '../env.ts'
import { servicesOf } from '../services.ts'
import { datasetKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { servedModels } from '../tasks/requested-model.ts'
import { BASE_NAME, makeTaskName, TASK_NAME_PATTERN } from '../tasks/selection.ts'

const DEFAULT_PAGE = 20
/** OpenAI's. */
const DEFAULT_CHECKPOINTS_PAGE = 10
const MAX_JOBS_PAGE = 100
/** A page holds every trial of an ordinary job. */
const MAX_EVENTS_PAGE = 1000
const jobsQuerySchema = pageQuerySchema(DEFAULT_PAGE, MAX_JOBS_PAGE)
const checkpointsQuerySchema = pageQuerySchema(DEFAULT_CHECKPOINTS_PAGE, MAX_JOBS_PAGE)
const eventsQuerySchema = pageQuerySchema(DEFAULT_PAGE, MAX_EVENTS_PAGE)

export const fineTuningJobs = new Hono<AppEnv>()
  .post('/', async (c) => {
    const projectId = c.get('projectId')
    const request = parseWire(createJobSchema, await readJsonObject(c.req.raw))
    checkNames(request, servicesOf(c.env).config)
    const spec = await makeSpec(c.env, projectId, request)
    // The object first: a crash between the two leaves a job that copies itself to D1 later, and
    // never a row without a job.
    return c.json(await stubOf(c.env, projectId, spec.id).create(spec))
  })
  .get('/', async (c) => {
    const page = parseWire(jobsQuerySchema, c.req.query())
    const metadata = readMetadataFilter(c.req.query())
    const jobs = await listJobs(c.env.DB, c.get('projectId'), page, metadata)
    if (jobs === null) throw invalidRequest('No such job to list after.', 'after')
    return c.json(toPage(jobs, page.limit))
  })
  .get('/:id', async (c) => {
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const found = await stub.read()
    if (found === null) throw noJob(c.req.param('id'))
    const { job, report } = found
    return c.json({ ...job, arcana: { ...job.arcana, report } })
  })
  .get('/:id/events', async (c) => {
    const page = parseWire(eventsQuerySchema, c.req.query())
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const events = await stub.listEvents(page.limit, page.after)
    if (events === null) throw invalidRequest('No such event to list after.', 'after')
    return c.json(toPage(events, page.limit))
  })
  .get('/:id/checkpoints', async (c) => {
    const page = parseWire(checkpointsQuerySchema, c.req.query())
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const all = await stub.listCheckpoints()
    if (all === null) throw noJob(c.req.param('id'))
    const from = page.after === undefined ? 0 : all.findIndex(({ id }) => id === page.after) + 1
    if (page.after !== undefined && from === 0) {
      throw invalidRequest('No such checkpoint to list after.', 'after')
    }
    const list = toPage(all.slice(from), page.limit)
    return c.json({
      ...list,
      first_id: list.data[0]?.id ?? null,
      last_id: list.data.at(-1)?.id ?? null,
    })
  })
  .post('/:id/cancel', async (c) => {
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const cancelled = await stub.cancel()
    if (cancelled === null) throw noJob(c.req.param('id'))
    if (cancelled.outcome === 'too_late') {
      const { id, status } = cancelled.job
      const state = status === 'running' ? 'being published' : status
      throw new ApiError(400, `The job ${id} cannot be cancelled: it is ${state}.`, {
        code: 'job_finished',
      })
    }
    return c.json(cancelled.job)
  })
  .post('/:id/publish', async (c) => {
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    parseWire(publishJobSchema, await readJsonObject(c.req.raw))
    const published = await stub.forcePublish()
    if (published === null) throw noJob(c.req.param('id'))
    if (published.done) return c.json(published.job)
    const { id, status, arcana } = published.job
    const promote =
      arcana.version === null
        ? ''
        : ` Its version ${arcana.version} is published: POST /v1/tasks/${arcana.task}/promote makes it live.`
    throw new ApiError(400, `The job ${id} has kept nothing back: it is ${status}.${promote}`, {
      code: 'nothing_to_publish',
    })
  })

function checkNames(request: CreateJob, config: Config): void {
  if (!servedModels(config).includes(request.model)) {
    throw new ApiError(404, `The model \`${request.model}\` does not exist or cannot be tuned.`, {
      param: 'model',
      code: 'model_not_found',
    })
  }
  const { suffix } = request
  if (suffix !== null && (!TASK_NAME_PATTERN.test(suffix) || suffix === BASE_NAME)) {
    throw invalidRequest(
      `Invalid 'suffix': it names the task, so it must match ${TASK_NAME_PATTERN.source} ` +
        `and not be "${BASE_NAME}".`,
      'suffix',
    )
  }
}

/** A beta needs pairs, given or drawn; and some objectives can be learnt by one search alone. */
function checkPairs(
  { hasPairs, onlyOptimiser }: ObjectiveKind,
  { beta }: CreateJob,
  { optimiser }: Pick<JobSpec, 'optimiser'>,
): void {
  if (beta !== null && !hasPairs && searchOf({ optimiser }).drawsPairs !== true) {
    throw invalidRequest(
      "Invalid 'method.rotation.beta': it applies only to preference pairs, and the job has none.",
      'method.rotation.beta',
    )
  }
  if (onlyOptimiser === undefined || optimiser === onlyOptimiser) return
  const param = 'method.rotation.hyperparameters.optimizer'
  throw invalidRequest(
    `Invalid '${param}': pairs are learnt by "${onlyOptimiser}", not by "${optimiser}".`,
    param,
  )
}

/** Reads the files, checks that a task can be learnt from them, and stores the job's datasets. */
async function makeSpec(env: Bindings, projectId: string, request: CreateJob): Promise<JobSpec> {
  const read = async (fileId: string, param: 'training_file' | 'validation_file') => {
    const row = await findFile(env.DB, projectId, fileId)
    if (row === null) throw invalidRequest(`No such file: ${fileId}`, param, 'file_not_found')
    return readExamples(env.BLOBS, row.blobKey, param)
  }
  const training = await read(request.trainingFile, 'training_file')
  const validation =
    request.validationFile === null ? null : await read(request.validationFile, 'validation_file')
  const { runners } = servicesOf(env)
  const built = await buildFittedDatasets(runners, training, validation, request)
  const method = { ...request, objective: built.objective }
  const objective = objectiveOf(built)
  const foreign = findForeign(method)
  if (foreign !== null) {
    const param = `method.rotation.hyperparameters.${foreign.name}`
    throw invalidRequest(`Invalid '${param}': ${foreign.message}.`, param)
  }
  const search = settleHyperparameters(chooseOptimiser(method), request.hyperparameters, {
    scope: request.scope,
    objective,
  })
  checkPairs(objective, request, search)
  if (!objective.hasLabels && request.confidence !== null) {
    throw invalidRequest(
      "Invalid 'method.rotation.min_confidence': it applies only to labels, and the file has none.",
      'method.rotation.min_confidence',
    )
  }
  const grader =
    request.grader === null
      ? null
      : await checkGrader(env, projectId, request.model, request.grader)
  const id = `ftjob-${crypto.randomUUID().replaceAll('-', '')}`
  const store = async (dataset: Dataset | RewardSet, part: 'training' | 'validation') =>
    storeDataset(env.BLOBS, datasetKey(projectId, id, part), dataset)
  return {
    projectId,
    id,
    createdAtMs: Date.now(),
    model: request.model,
    task: request.suffix ?? makeTaskName(),
    suffix: request.suffix,
    trainingFile: request.trainingFile,
    validationFile: request.validationFile,
    metadata: request.metadata,
    seed: request.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
    ...search,
    scope: request.scope,
    frame: built.frame,
    objective: built.objective,
    beta:
      objective.hasPairs || searchOf(search).drawsPairs === true
        ? (request.beta ?? DEFAULT_BETA)
        : null,
    grader,
    generation: request.generation,
    labels: built.labels,
    guard: request.guard,
    publish: request.publish,
    tooLong: request.tooLong,
    force: request.force,
    confidence: request.confidence,
    groups: built.groups,
    warnings: built.warnings,
    training: await store(built.training, 'training'),
    validation: built.validation === null ? null : await store(built.validation, 'validation'),
  }
}

async function storeDataset(
  bucket: R2Bucket,
  blobKey: string,
  dataset: Dataset | RewardSet,
): Promise<StoredDataset> {
  const bytes = new TextEncoder().encode(JSON.stringify(dataset))
  await bucket.put(blobKey, bytes)
  return {
    blobKey,
    digest: await sha256Hex(bytes),
    gold:
      'labels' in dataset
        ? dataset.examples.map(({ label }) => label)
        : dataset.examples.map(() => 0),
  }
}

function stubOf(env: Bindings, projectId: string, jobId: string): DurableObjectStub<JobObject> {
  return env.JOBS.get(env.JOBS.idFromName(`${projectId}/${jobId}`))
}

/** Asked of D1 first: naming a Durable Object brings it into being. */
async function requireJob(env: Bindings, projectId: string, id: string) {
  const row = await findJob(env.DB, projectId, id)
  if (row === null) throw noJob(id)
  return stubOf(env, projectId, id)
}

const noJob = (id: string) => notFound(`No such fine-tuning job: ${id}`, 'id', 'job_not_found')
