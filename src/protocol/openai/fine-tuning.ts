/** `/v1/fine_tuning/jobs`: OpenAI's shapes, with the one method this gateway has. */
import { z } from 'zod'
import { MAX_LABEL_CHARS, MAX_LABELS, scopeSchema, type Scope } from '../runner.ts'
import {
  generationSchema,
  isTextGrader,
  type GenerationOptions,
  type TextGrader,
} from './graders.ts'
import { checkObjective, givenObjective, objectiveFields, type Objective } from './objective.ts'
import type { AnyReport } from './text-report.ts'
import { invalidRequest } from './error.ts'
import { pageQuerySchema } from './files.ts'
import { labelTextSchema } from './label-text.ts'
import { versionWords } from './version-words.ts'
import { MAX_METADATA_KEYS, metadataSchema } from './metadata.ts'
import { checkConfidence, fallbackLabelSchema, minConfidenceSchema } from './confidence.ts'
import { hyperparametersSchema, type ShownHyperparameters } from './hyperparameters.ts'

export type { SubspaceName } from './hyperparameters.ts'
export type { SearchName } from './search-names.ts'

/** The one `method.type` that is served. */
export const METHOD_TYPE = 'rotation'
const MAX_INSTRUCTIONS_CHARS = 16_384

const GUARD_MODES = ['report', 'enforce'] as const
export type GuardMode = (typeof GUARD_MODES)[number]

const TOO_LONG = ['error', 'drop', 'truncate'] as const
/** What a job does with examples that are longer than the model's context. */
export type TooLong = (typeof TOO_LONG)[number]

const PUBLISH_FROM = ['proven', 'promising'] as const
/** The weakest outcome of the guard with which a version goes live by itself. */
export type PublishFrom = (typeof PUBLISH_FROM)[number]

/** A task's instructions, where they stand in the prompt, and the answers that it may give. */
export const frameFields = {
  instructions: z.string().trim().min(1).max(MAX_INSTRUCTIONS_CHARS).nullish(),
  position: z.enum(['before', 'after']).default('before'),
  labels: z
    .array(labelTextSchema.pipe(z.string().trim().min(1).max(MAX_LABEL_CHARS)))
    .min(2)
    .max(MAX_LABELS, `at most ${MAX_LABELS} labels are allowed`)
    .refine((labels) => new Set(labels).size === labels.length, 'must not repeat a label')
    .nullish(),
}

const rotationFields = z.strictObject({
  ...frameFields,
  ...versionWords,
  ...objectiveFields,
  scope: scopeSchema.default('generated'),
  hyperparameters: hyperparametersSchema.prefault({}),
  /**
   * "enforce": the guard decides whether a version goes live. "report": it only writes its finding.
   */
  guard: z.enum(GUARD_MODES).default('enforce'),
  /**
   * Examples that do not fit the context: refuse the job, leave them out, or cut their inputs'
   * ends.
   */
  too_long: z.enum(TOO_LONG).default('error'),
  /** "promising" makes a promising version live as well as a proven one. */
  publish: z.enum(PUBLISH_FROM).default('proven'),
  /** Publishes the adapter whatever an enforced guard finds. The report says so. */
  force: z.boolean().default(false),
  /** If the likeliest label is less probable than this, the task answers with `fallback_label`. */
  min_confidence: minConfidenceSchema.nullish(),
  fallback_label: fallbackLabelSchema.nullish(),
})
const rotationSchema = rotationFields.superRefine((fields, context) => {
  checkConfidence(fields, context)
  checkObjective(fields, context)
})

const hyperparameterNames: readonly string[] = Object.keys(hyperparametersSchema.shape)
const isLeftOpen = (value: unknown): boolean => value === null || value === 'auto'

/**
 * Some clients always send `hyperparameters` beside the method, where OpenAI had them first. This
 * gateway does not read them there, so they may only repeat the method's values or say `auto`.
 */
function checkOldHyperparameters(
  body: {
    readonly hyperparameters?: Readonly<Record<string, unknown>> | null | undefined
    readonly method?:
      { readonly rotation?: z.output<typeof rotationSchema> | undefined } | null | undefined
  },
  context: z.RefinementCtx,
): void {
  const own: Readonly<Record<string, unknown>> = body.method?.rotation?.hyperparameters ?? {}
  for (const [name, value] of Object.entries(body.hyperparameters ?? {})) {
    if (isLeftOpen(value) || (Object.hasOwn(own, name) && own[name] === value)) continue
    const message = !hyperparameterNames.includes(name)
      ? 'is not a hyperparameter of the method "rotation"'
      : own[name] === undefined
        ? `must be given as method.rotation.hyperparameters.${name}`
        : `differs from method.rotation.hyperparameters.${name}`
    context.addIssue({ code: 'custom', path: ['hyperparameters', name], message })
    return
  }
}

export const createJobSchema = z
  .strictObject({
    model: z.string().min(1),
    training_file: z.string().min(1),
    validation_file: z.string().min(1).nullish(),
    /** The task's name. If left out, the gateway makes one up. */
    suffix: z.string().nullish(),
    seed: z.int().min(0).max(0xffffffff).nullish(),
    method: z
      .strictObject({
        type: z.literal(METHOD_TYPE, {
          error: (issue) => `only "rotation" is supported, not ${JSON.stringify(issue.input)}`,
        }),
        rotation: rotationSchema.optional(),
      })
      .nullish(),
    metadata: metadataSchema.nullish(),
    integrations: z.array(z.unknown()).max(0, 'are not supported').nullish(),
    hyperparameters: z.record(z.string(), z.unknown()).nullish(),
  })
  .superRefine(checkOldHyperparameters)
  .transform((body) => {
    const rotation = body.method?.rotation ?? rotationSchema.parse({})
    return {
      model: body.model,
      trainingFile: body.training_file,
      validationFile: body.validation_file ?? null,
      suffix: body.suffix ?? null,
      seed: body.seed ?? null,
      metadata: body.metadata ?? null,
      instructions: rotation.instructions ?? null,
      position: rotation.position,
      labels: rotation.labels ?? null,
      objective: givenObjective(rotation),
      beta: rotation.beta ?? null,
      grader: isTextGrader(rotation.grader) ? rotation.grader : null,
      generation: isTextGrader(rotation.grader)
        ? (rotation.generation ?? generationSchema.parse({}))
        : null,
      scope: rotation.scope,
      guard: rotation.guard,
      publish: rotation.publish,
      tooLong: rotation.too_long,
      force: rotation.force,
      tags: rotation.tags ?? null,
      notes: rotation.notes ?? null,
      confidence:
        rotation.min_confidence == null
          ? null
          : { min: rotation.min_confidence, fallbackLabel: rotation.fallback_label ?? null },
      /** As the request gives them. The job settles the rest when it has read its files. */
      hyperparameters: rotation.hyperparameters,
    }
  })

const DEFAULT_PAGE = 20
/** OpenAI's default. */
const DEFAULT_CHECKPOINTS_PAGE = 10
const MAX_JOBS_PAGE = 100
/** One page holds all events of an ordinary job. */
const MAX_EVENTS_PAGE = 1000
export const jobsQuerySchema = pageQuerySchema(DEFAULT_PAGE, MAX_JOBS_PAGE)
export const checkpointsQuerySchema = pageQuerySchema(DEFAULT_CHECKPOINTS_PAGE, MAX_JOBS_PAGE)
export const eventsQuerySchema = pageQuerySchema(DEFAULT_PAGE, MAX_EVENTS_PAGE)

const METADATA_FILTER = /^metadata\[(?<key>.*)\]$/su
export const isMetadataFilter = (name: string): boolean => METADATA_FILTER.test(name)

/** The metadata that listed jobs must have. Null lists the jobs without any metadata. */
export type MetadataFilter = Readonly<Record<string, string>> | null

/**
 * Reads `metadata[key]=value`, once for each key, or `metadata=null`.
 * @returns undefined where the query asks for neither
 * @throws {ApiError}
 */
export function readMetadataFilter(
  query: Readonly<Record<string, string>>,
): MetadataFilter | undefined {
  const pairs = Object.entries(query).flatMap(([name, value]): [string, string][] => {
    const key = METADATA_FILTER.exec(name)?.groups?.['key']
    return key === undefined ? [] : [[key, value]]
  })
  if (pairs.length > MAX_METADATA_KEYS) {
    throw invalidRequest(`A job has at most ${MAX_METADATA_KEYS} keys of metadata.`, 'metadata')
  }
  const { metadata } = query
  if (metadata === undefined) return pairs.length === 0 ? undefined : Object.fromEntries(pairs)
  if (metadata === 'null' && pairs.length === 0) return null
  throw invalidRequest(
    "Invalid 'metadata': must be metadata[KEY]=VALUE, or null for jobs without metadata.",
    'metadata',
  )
}

/** `POST /v1/fine_tuning/jobs/{id}/publish` makes a version live that the guard kept back. */
export const publishJobSchema = z.strictObject({
  force: z.literal(true, { error: 'must be true: the guard found no gain that it could show' }),
})

export type CreateJob = z.output<typeof createJobSchema>

export type JobStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'
export const isFinished = (status: JobStatus): boolean =>
  status === 'succeeded' || status === 'failed' || status === 'cancelled'

export type JobError = {
  readonly code: string
  readonly message: string
  readonly param: string | null
}

export type FineTuningJob = {
  readonly id: string
  readonly object: 'fine_tuning.job'
  /** Unix seconds, as `finished_at`. */
  readonly created_at: number
  readonly finished_at: number | null
  readonly model: string
  readonly fine_tuned_model: string | null
  readonly organization_id: string
  readonly status: JobStatus
  readonly hyperparameters: Record<string, never>
  readonly training_file: string
  readonly validation_file: string | null
  readonly result_files: readonly string[]
  readonly seed: number
  /** The prompt tokens of the training examples, times the trials. */
  readonly trained_tokens: number | null
  readonly error: JobError | null
  readonly user_provided_suffix: string | null
  readonly metadata: Readonly<Record<string, string>> | null
  readonly integrations: readonly never[]
  readonly estimated_finish: number | null
  readonly method: {
    readonly type: typeof METHOD_TYPE
    readonly rotation: {
      readonly instructions: string | null
      readonly position: 'before' | 'after'
      readonly objective: Objective
      readonly beta: number | null
      readonly grader: TextGrader | null
      readonly generation: GenerationOptions | null
      /** Null unless the job learns labels. */
      readonly labels: readonly string[] | null
      readonly scope: Scope
      readonly guard: GuardMode
      readonly publish: PublishFrom
      readonly too_long: TooLong
      readonly force: boolean
      /** Of the version that the job makes. */
      readonly tags: readonly string[] | null
      readonly notes: string | null
      readonly min_confidence: number | null
      readonly fallback_label: string | null
      readonly hyperparameters: ShownHyperparameters
    }
  }
  readonly arcana: {
    readonly task: string
    /** The version that this job made. */
    readonly version: number | null
    readonly progress: JobProgress
    /** Absent in lists. */
    readonly report?: AnyReport | null
  }
}

export type JobProgress = {
  readonly trials_done: number
  readonly trials_total: number
  /**
   * The mean log probability of the right label or of a target's token, or the grader's mean score;
   * higher is better. `auto` measures it on the examples that its folds hold out.
   */
  readonly best_value: number | null
  /** The same for the base model, which is the first trial. */
  readonly base_value: number | null
  /**
   * Trials of the guard's own searches, one search a fold; 0 where the job's search has folds
   * itself.
   */
  readonly guard_trials_done: number
  readonly guard_trials_total: number
}

export type JobEvent = {
  readonly id: string
  readonly object: 'fine_tuning.job.event'
  readonly created_at: number
  readonly level: 'info' | 'warn' | 'error'
  readonly type: 'message' | 'metrics'
  readonly message: string
  /**
   * An event of type `metrics` has step, trial, round, value, best_value and total. `gradient` adds
   * train_loss and held_out_loss after `trial` steps. `auto` counts configurations by `trial` and a
   * configuration's steps by `step`; while a configuration runs, its events have only these and the
   * losses.
   */
  readonly data: Readonly<Record<string, number | null>> | null
}

/**
 * A version that a job published. One that an `auto` job published on the way is live only if
 * promoted.
 */
export type JobCheckpoint = {
  readonly id: string
  readonly object: 'fine_tuning.job.checkpoint'
  readonly created_at: number
  readonly fine_tuned_model_checkpoint: string
  readonly fine_tuning_job_id: string
  /** How many trials the job had made. */
  readonly step_number: number
  readonly metrics: {
    readonly step: number
    /**
     * Mean −log P, in nats, of the right label or of a target's token as the version serves; for
     * pairs, their loss. `train_loss` is over the examples it was fitted to, `valid_loss` out of
     * fold.
     */
    readonly train_loss?: number
    readonly valid_loss?: number
    /** How often the version gives the right label. Only jobs that learn labels have it. */
    readonly train_mean_token_accuracy?: number
    readonly valid_mean_token_accuracy?: number
    /** The grader's mean score. Only jobs with a grader of texts have it. */
    readonly train_mean_reward?: number
    readonly valid_mean_reward?: number
  }
}
