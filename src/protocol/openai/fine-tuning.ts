/** `/v1/fine_tuning/jobs`: OpenAI's shapes, with the one method this gateway has. */
import { z } from 'zod'
import { MAX_LABEL_CHARS, MAX_LABELS, scopeSchema, type Scope } from '../runner.ts'
import {
  generationSchema,
  isTextGrader,
  type GenerationOptions,
  type TextGrader,
} from './graders.ts'
import { checkObjective, objectiveFields, objectiveOf, type Objective } from './objective.ts'
import type { AnyReport } from './text-report.ts'
import { checkConfidence, fallbackLabelSchema, minConfidenceSchema } from './confidence.ts'
import {
  checkHyperparameters,
  hyperparametersSchema,
  type OptimiserName,
  type ShownHyperparameters,
} from './hyperparameters.ts'

export type { OptimiserName, SubspaceName } from './hyperparameters.ts'

/** A request's method, as OpenAI nests it. */
export const METHOD_TYPE = 'rotation'
const MAX_INSTRUCTIONS_CHARS = 16_384
const MAX_METADATA_KEYS = 16

const GUARD_MODES = ['report', 'enforce'] as const
export type GuardMode = (typeof GUARD_MODES)[number]

/** What frames a task's prompts, and the answers it may give. */
export const frameFields = {
  instructions: z.string().trim().min(1).max(MAX_INSTRUCTIONS_CHARS).nullish(),
  position: z.enum(['before', 'after']).default('before'),
  labels: z
    .array(z.string().trim().min(1).max(MAX_LABEL_CHARS))
    .min(2)
    .max(MAX_LABELS, `at most ${MAX_LABELS} labels are allowed`)
    .refine((labels) => new Set(labels).size === labels.length, 'must not repeat a label')
    .nullish(),
}

const rotationFields = z.strictObject({
  ...frameFields,
  ...objectiveFields,
  scope: scopeSchema.default('generated'),
  hyperparameters: hyperparametersSchema.prefault({}),
  /** Whether the guard's finding decides what is published, or only stands in the report. */
  guard: z.enum(GUARD_MODES).default('enforce'),
  /** Publish the adapter whatever an enforced guard finds; the report says so. */
  force: z.boolean().default(false),
  /** Where the surest label is less likely than this, the task answers with `fallback_label`. */
  min_confidence: minConfidenceSchema.nullish(),
  fallback_label: fallbackLabelSchema.nullish(),
})
const rotationSchema = rotationFields.superRefine((fields, context) => {
  checkConfidence(fields, context)
  checkObjective(fields, context)
  checkHyperparameters({ ...fields, objective: objectiveOf(fields) }, context)
})

export const createJobSchema = z
  .strictObject({
    model: z.string().min(1),
    training_file: z.string().min(1),
    validation_file: z.string().min(1).nullish(),
    suffix: z.string({ error: 'is required: it names the task that is learnt' }),
    seed: z.int().min(0).max(0xffffffff).nullish(),
    method: z
      .strictObject({
        type: z.literal(METHOD_TYPE, {
          error: (issue) => `only "rotation" is supported, not ${JSON.stringify(issue.input)}`,
        }),
        rotation: rotationSchema.optional(),
      })
      .nullish(),
    metadata: z
      .record(z.string().max(64), z.string().max(512))
      .refine(
        (metadata) => Object.keys(metadata).length <= MAX_METADATA_KEYS,
        `must have at most ${MAX_METADATA_KEYS} keys`,
      )
      .nullish(),
    integrations: z.array(z.unknown()).max(0, 'are not supported').nullish(),
  })
  .transform((body) => {
    const rotation = body.method?.rotation ?? rotationSchema.parse({})
    return {
      model: body.model,
      trainingFile: body.training_file,
      validationFile: body.validation_file ?? null,
      task: body.suffix,
      seed: body.seed ?? null,
      metadata: body.metadata ?? null,
      instructions: rotation.instructions ?? null,
      position: rotation.position,
      labels: rotation.labels ?? null,
      objective: objectiveOf(rotation),
      beta: rotation.beta ?? null,
      grader: isTextGrader(rotation.grader) ? rotation.grader : null,
      generation: isTextGrader(rotation.grader)
        ? (rotation.generation ?? generationSchema.parse({}))
        : null,
      scope: rotation.scope,
      guard: rotation.guard,
      force: rotation.force,
      confidence:
        rotation.min_confidence == null
          ? null
          : { min: rotation.min_confidence, fallbackLabel: rotation.fallback_label ?? null },
      /** As given: what is left open is settled once it is known what the files teach. */
      hyperparameters: rotation.hyperparameters,
    }
  })

/** `POST /v1/fine_tuning/jobs/{id}/publish`: what the guard kept back. */
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
  /** Prompt tokens of the training examples, once for every trial on them. */
  readonly trained_tokens: number | null
  readonly error: JobError | null
  readonly user_provided_suffix: string
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
      /** Null where the answers are texts of their own. */
      readonly labels: readonly string[] | null
      readonly scope: Scope
      readonly guard: GuardMode
      readonly force: boolean
      readonly min_confidence: number | null
      readonly fallback_label: string | null
      readonly hyperparameters: ShownHyperparameters
    }
  }
  readonly arcana: {
    readonly task: string
    /** The version this job published. */
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
   * Mean log probability of the right label or of a target's token, or mean score; higher is better.
   * Under `auto` of examples held out by the folds.
   */
  readonly best_value: number | null
  /** The same for the base model, which is the first trial. */
  readonly base_value: number | null
  /** Evaluations of the guard's folds, beside the trials; 0 of 0 where the search has its own. */
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
   * For `metrics`: step, trial, round, value, best_value, total; under `gradient` also train_loss
   * and held_out_loss (null where it was not looked at) after `trial` steps. Under `auto` trial is the
   * configuration's number and step its own; all but these and the losses come when it has ended.
   */
  readonly data: Readonly<Record<string, number | null>> | null
}

/** How one way of answering does on labelled examples. */
export type ClassificationMetrics = {
  readonly accuracy: number
  readonly balanced_accuracy: number
  readonly weighted_f1: number
  /** Mean negative log probability of the right label, nats. */
  readonly log_loss: number
  readonly calibration_error: number
  /** [right label][answered label], in the order of `labels`. */
  readonly confusion: readonly (readonly number[])[]
  /** In the order of `labels`. */
  readonly per_class: readonly {
    readonly num_examples: number
    /** Null where the label was never the answer. */
    readonly precision: number | null
    /** Null where no example has the label. */
    readonly recall: number | null
    readonly f1: number
  }[]
}

export type EvaluationReport = {
  readonly num_examples: number
  readonly base: ClassificationMetrics
  /** The base model with a label bias estimated on the training inputs, without their labels. */
  readonly calibrated_base: ClassificationMetrics
  /** As the version serves: with its bias and temperature, and without angles for a bias alone. */
  readonly adapter: ClassificationMetrics
}

/** A way of answering that a version has to beat. */
export type GuardReference = 'base' | 'calibrated_base' | 'bias_only' | 'label_frequencies'

/** An answer against its references, by out-of-fold log loss in nats; positive gains are better. */
export type GuardComparison = {
  /** Largest of the p-values against each reference: it has to beat them all. */
  readonly p_value: number
  /** The reference that is hardest to beat; what follows is against it. */
  readonly against: GuardReference
  readonly gain: number
  /** 95% by Student's t; null for a single example. */
  readonly interval: readonly [number, number] | null
  /**
   * The gain that a test at half the level would have shown four times in five, the examples varying
   * as they do; null where so few examples can show none.
   */
  readonly smallest_detectable_gain: number | null
  readonly gains: Readonly<Partial<Record<GuardReference, number>>>
}

/** Whether what was learnt helps, judged on examples that it was not fitted to. */
export type GuardReport = GuardComparison & {
  readonly outcome: 'published' | 'no_gain' | 'inconclusive'
  /** What the guard itself would publish, or did; null is nothing. */
  readonly would_publish: 'adapter' | 'bias_only' | null
  /** What the figures above are of, and what is published: a rotation, or a label bias alone. */
  readonly answer: 'adapter' | 'bias_only'
  /** False where the job asked for a finding and no more: then an adapter is published in any case. */
  readonly enforced: boolean
  /** Published against an enforced outcome, because the job or its owner asked for it. */
  readonly forced: boolean
  readonly test: 'paired one-sided sign-flip of out-of-fold log loss'
  readonly level: number
  readonly power: number
  readonly folds: number
  /** Of each fold's own search; the job's own where the folds are part of it. */
  readonly trials_per_fold: number
  readonly compared: {
    readonly adapter: GuardComparison
    readonly bias_only: GuardComparison
  }
  readonly out_of_fold: {
    readonly base: ClassificationMetrics
    readonly calibrated_base: ClassificationMetrics
    readonly bias_only: ClassificationMetrics
    readonly adapter: ClassificationMetrics
  }
  /** Of the answer: what withholding unsure answers gives; confidence as it is served. */
  readonly accuracy_by_coverage: readonly {
    readonly min_confidence: number
    readonly coverage: number
    readonly accuracy: number
  }[]
}

/** What is odd about the examples, by line number of the training file, or about the task. */
export type JobWarning = {
  readonly code:
    'duplicate_inputs' | 'conflicting_labels' | 'missing_classes' | 'base_knows_nothing'
  readonly message: string
  /** Ten at most. */
  readonly lines: readonly number[]
}

/** How the number of steps was chosen: by examples that the folds' fits had not seen. */
export type GradientReport = {
  readonly n_steps: number
  readonly learning_rate: number
  readonly n_folds: number
  /**
   * Mean −log P(right label), or of a target's token, nats, in float32: after the chosen step, and of
   * the base model.
   */
  readonly held_out_loss: number
  readonly base_loss: number
}

/** What `auto` tried, and what it ended with. */
export type AutoReport = {
  readonly budget_seconds: number
  /** By the search's own clock: the answers' times, summed. */
  readonly seconds_spent: number
  readonly configurations: readonly {
    /** `abandoned`: it lagged behind the best; `cut`: the budget was over. */
    readonly end: 'finished' | 'abandoned' | 'cut'
    readonly learning_rate: number
    /** First and last layer rotated, both included. */
    readonly layers: readonly [number, number]
    readonly decay: number
    readonly has_scale: boolean
    readonly n_steps: number
    readonly held_out_loss: number
    readonly seconds: number
  }[]
  /** Configurations, by number from 1, whose angles' mean was published, at a strength. */
  readonly chosen: readonly number[]
  readonly strength: number
  /** Mean −log P(right label), nats, in float32: of what was chosen, and of the base model. */
  readonly held_out_loss: number
  readonly base_loss: number
}

/** A version that a job published; all but the last of an `auto` job go live only when promoted. */
export type JobCheckpoint = {
  readonly id: string
  readonly object: 'fine_tuning.job.checkpoint'
  readonly created_at: number
  readonly fine_tuned_model_checkpoint: string
  readonly fine_tuning_job_id: string
  /** Trials that it is made of. */
  readonly step_number: number
  readonly metrics: {
    readonly step: number
    /**
     * Mean −log P of the right label or of a target's token, nats, as the version serves: of its own
     * examples, and out of fold. Of pairs, their loss.
     */
    readonly train_loss?: number
    readonly valid_loss?: number
    /** Of labels. */
    readonly train_mean_token_accuracy?: number
    readonly valid_mean_token_accuracy?: number
    /** Of a grader, its mean score. */
    readonly train_mean_reward?: number
    readonly valid_mean_reward?: number
  }
}

/** Whether the base model's answers have anything to do with the right ones. */
export type BaseKnowledge = {
  readonly test: 'one-sided permutation of the right labels, by their log probability'
  /** How often it does as well with the labels dealt out anew; the same under any label bias. */
  readonly p_value: number
  readonly level: number
  /** Training and validation examples, those of one input counted once. */
  readonly num_examples: number
}

export type JobReport = {
  readonly guard: GuardReport
  readonly base_knowledge: BaseKnowledge
  readonly warnings: readonly JobWarning[]
  readonly job: string
  readonly optimizer: OptimiserName
  readonly n_trials: number
  /** Of the optimizer `gradient`. */
  readonly gradient?: GradientReport
  /** Of the optimizer `auto`. */
  readonly auto?: AutoReport
  readonly seed: number
  readonly scope: Scope
  readonly labels: readonly string[]
  readonly layers: readonly number[]
  /** Null where the version is a label bias alone. */
  readonly adapter_digest: string | null
  readonly model_digest: string
  readonly build_digest: string
  /** Added to the labels' log probabilities wherever the version serves, in the order of `labels`. */
  readonly bias: readonly number[]
  /** What biased log probabilities are divided by, fitted to out-of-fold predictions. */
  readonly temperature: number
  /**
   * Of the search's best trial: mean log probability of the right label under the bias that suits the
   * trial best, less a small penalty on that bias. The base's value has its own best bias too.
   */
  readonly best_value: number | null
  readonly best_trial: number | null
  readonly base_value: number
  /** Of the adapter as stored, measured again. */
  readonly adapter_value: number
  readonly seconds: number
  readonly train: EvaluationReport
  readonly validation: EvaluationReport | null
}
