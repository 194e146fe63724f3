/** Answers of `/v1/fine_tuning/jobs`. */
import { z } from 'zod'
import type { FineTuningJob, JobCheckpoint, JobEvent } from '../../protocol/openai/fine-tuning.ts'
import { generationSchema, textGraderSchema } from '../../protocol/openai/graders.ts'
import type { ShownHyperparameters } from '../../protocol/openai/hyperparameters.ts'
import { position, scope, unixSeconds } from './common.ts'
import { report } from './report.ts'

const count = z.int().min(0)
const hyperparameters = z.discriminatedUnion('optimizer', [
  z.object({ optimizer: z.literal('auto'), n_trials: count, budget_seconds: z.number() }),
  z.object({
    optimizer: z.literal('bo'),
    n_trials: count,
    subspace: z.enum(['gradient', 'random']),
  }),
  z.object({ optimizer: z.enum(['random', 'tarot', 'tarot-published']), n_trials: count }),
  z.object({
    optimizer: z.enum(['raft', 'iterative-dpo']),
    n_rounds: count,
    n_samples: count,
    n_steps: count,
    learning_rate: z.number(),
  }),
  z.object({
    optimizer: z.literal('gradient'),
    n_steps: count,
    learning_rate: z.number(),
    prompt_dropout: z.number(),
  }),
]) satisfies z.ZodType<ShownHyperparameters>

export const fineTuningJob = z.object({
  id: z.string(),
  object: z.literal('fine_tuning.job'),
  created_at: unixSeconds,
  finished_at: unixSeconds.nullable(),
  model: z.string(),
  fine_tuned_model: z.string().nullable(),
  organization_id: z.string(),
  status: z.enum(['queued', 'running', 'succeeded', 'failed', 'cancelled']),
  hyperparameters: z.strictObject({}),
  training_file: z.string(),
  validation_file: z.string().nullable(),
  result_files: z.array(z.string()),
  seed: z.int(),
  trained_tokens: count.nullable(),
  error: z
    .object({ code: z.string(), message: z.string(), param: z.string().nullable() })
    .nullable(),
  user_provided_suffix: z.string().nullable(),
  metadata: z.record(z.string(), z.string()).nullable(),
  integrations: z.array(z.never()),
  estimated_finish: unixSeconds.nullable(),
  method: z.object({
    type: z.literal('rotation'),
    rotation: z.object({
      instructions: z.string().nullable(),
      position,
      objective: z.enum(['label', 'target', 'preference', 'reward']),
      beta: z.number().nullable(),
      grader: textGraderSchema.nullable(),
      generation: generationSchema.nullable(),
      labels: z.array(z.string()).nullable(),
      scope,
      guard: z.enum(['report', 'enforce']),
      publish: z.enum(['proven', 'promising']),
      too_long: z.enum(['error', 'drop', 'truncate']),
      force: z.boolean(),
      tags: z.array(z.string()).nullable(),
      notes: z.string().nullable(),
      min_confidence: z.number().nullable(),
      fallback_label: z.string().nullable(),
      hyperparameters,
    }),
  }),
  arcana: z.object({
    task: z.string(),
    version: z.int().nullable().describe('The version that this job made.'),
    progress: z.object({
      trials_done: count,
      trials_total: count,
      best_value: z.number().nullable(),
      base_value: z.number().nullable(),
      guard_trials_done: count,
      guard_trials_total: count,
    }),
    report: report.nullable().exactOptional().describe('Absent in lists.'),
  }),
}) satisfies z.ZodType<FineTuningJob>

export const jobEvent = z.object({
  id: z.string(),
  object: z.literal('fine_tuning.job.event'),
  created_at: unixSeconds,
  level: z.enum(['info', 'warn', 'error']),
  type: z.enum(['message', 'metrics']),
  message: z.string(),
  data: z.record(z.string(), z.number().nullable()).nullable(),
}) satisfies z.ZodType<JobEvent>

export const jobCheckpoint = z.object({
  id: z.string(),
  object: z.literal('fine_tuning.job.checkpoint'),
  created_at: unixSeconds,
  fine_tuned_model_checkpoint: z.string(),
  fine_tuning_job_id: z.string(),
  step_number: count,
  metrics: z.object({
    step: count,
    train_loss: z.number().exactOptional(),
    valid_loss: z.number().exactOptional(),
    train_mean_token_accuracy: z.number().exactOptional(),
    valid_mean_token_accuracy: z.number().exactOptional(),
    train_mean_reward: z.number().exactOptional(),
    valid_mean_reward: z.number().exactOptional(),
  }),
}) satisfies z.ZodType<JobCheckpoint>
