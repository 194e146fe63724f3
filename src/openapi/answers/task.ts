/** Answers of `/v1/files`, `/v1/models` and `/v1/tasks`. */
import { z } from 'zod'
import type { Task, TaskVersion, TaskWithVersions } from '../../protocol/arcana/tasks.ts'
import type { FileObject } from '../../protocol/openai/files.ts'
import type { Model } from '../../protocol/openai/models.ts'
import { digest, position, scope, unixSeconds } from './common.ts'
import { report } from './report.ts'

const count = z.int().min(0)

export const file = z.object({
  id: z.string(),
  object: z.literal('file'),
  bytes: count,
  created_at: unixSeconds,
  filename: z.string(),
  purpose: z.string(),
  status: z.literal('processed'),
  arcana: z.object({
    num_examples: count,
    too_long: z
      .object({
        max_context: count.describe('In tokens.'),
        num_lines: count,
        lines: z.array(z.int()).describe('The first hundred of them.'),
        is_complete: z.boolean(),
      })
      .exactOptional()
      .describe('Lines that do not fit the context. Only the answer to an upload has it.'),
  }),
}) satisfies z.ZodType<FileObject>

export const model = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: unixSeconds,
  owned_by: z.string(),
  arcana: z
    .object({
      base: z.string(),
      task: z.string(),
      version: z.int().nullable().exactOptional(),
      live_version: z.int().nullable(),
      is_corrupt: z.boolean(),
    })
    .exactOptional()
    .describe('Absent for a base model.'),
}) satisfies z.ZodType<Model>

export const task = z.object({
  object: z.literal('arcana.task'),
  id: z.string(),
  name: z.string(),
  model: z.string().describe('The base model that the task belongs to.'),
  live_version: z.int().nullable(),
  fine_tuned_model: z.string().describe('A request whose `model` is this uses the task.'),
  created_at: unixSeconds,
  updated_at: unixSeconds,
}) satisfies z.ZodType<Task>

export const taskVersion = z.object({
  object: z.literal('arcana.task.version'),
  id: z.string(),
  task: z.string(),
  version: z.int().min(1),
  is_live: z.boolean(),
  digest,
  model: z.string(),
  model_digest: digest,
  adapter_digest: digest.nullable().describe('Null if the version is a label bias alone.'),
  scope,
  layers: z.array(count),
  instructions: z.string().nullable(),
  position,
  labels: z.array(z.string()).nullable(),
  bias: z.array(z.number()).nullable(),
  temperature: z.number().nullable(),
  min_confidence: z.number().nullable(),
  fallback_label: z.string().nullable(),
  job: z.string().describe('`import-…` for an uploaded version.'),
  created_at: unixSeconds,
  corrupt_at: unixSeconds.nullable(),
  retires_at: unixSeconds.nullable().describe('When the version stops to answer.'),
  tags: z.array(z.string()),
  notes: z.string().nullable(),
  report: report.nullable().exactOptional().describe('Absent in lists.'),
}) satisfies z.ZodType<TaskVersion>

export const taskWithVersions = task.extend({
  versions: z.array(taskVersion).describe('The newest ones, newest first.'),
  has_more_versions: z.boolean(),
}) satisfies z.ZodType<TaskWithVersions>
