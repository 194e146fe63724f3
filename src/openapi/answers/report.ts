/** `arcana.report` of a job and of a version. */
import { z } from 'zod'
import { generationSchema, textGraderSchema } from '../../protocol/openai/graders.ts'
import type { JobReport } from '../../protocol/openai/job-report.ts'
import { SEARCH_NAMES } from '../../protocol/openai/search-names.ts'
import type {
  PreferenceReport,
  RewardReport,
  TargetReport,
} from '../../protocol/openai/text-report.ts'
import { digest, scope } from './common.ts'

const count = z.int().min(0)
const interval = z.tuple([z.number(), z.number()]).nullable()

export const classification = z.object({
  accuracy: z.number(),
  balanced_accuracy: z.number(),
  weighted_f1: z.number(),
  log_loss: z.number().describe('Mean negative log probability of the right label, nats.'),
  calibration_error: z.number(),
  confusion: z.array(z.array(count)).describe('By right label, then by answered label.'),
  per_class: z.array(
    z.object({
      num_examples: count,
      precision: z.number().nullable(),
      recall: z.number().nullable(),
      f1: z.number(),
    }),
  ),
})
const labelEvaluation = z.object({
  num_examples: count,
  base: classification,
  calibrated_base: classification,
  adapter: classification,
})
const comparison = z.object({
  p_value: z.number(),
  gain: z.number(),
  interval,
  gains: z.object({
    base: z.number().exactOptional(),
    calibrated_base: z.number().exactOptional(),
    bias_only: z.number().exactOptional(),
  }),
})
const labelGuard = comparison.extend({
  outcome: z.enum(['proven', 'promising', 'bias_only', 'no_gain']),
  summary: z.string(),
  would_publish: z.enum(['adapter', 'bias_only']).nullable(),
  answer: z.enum(['adapter', 'bias_only']),
  enforced: z.boolean(),
  forced: z.boolean(),
  test: z.enum([
    'permutation of the right labels within folds, by out-of-fold log odds',
    'permutation of the right labels, by the mean of several partitions’ out-of-fold log odds',
  ]),
  against: z.literal('base'),
  unit: z.literal('balanced accuracy'),
  level: z.number(),
  power: z.number(),
  more_examples: count.nullable(),
  folds: count,
  partitions: count
    .exactOptional()
    .describe(
      'Divisions into folds by which the adapter was tested: 3 where the first left a doubt.',
    ),
  trials_per_fold: count,
  compared: z.object({ adapter: comparison, bias_only: comparison }),
  out_of_fold: z.object({
    base: classification,
    calibrated_base: classification,
    bias_only: classification,
    adapter: classification,
  }),
  accuracy_by_coverage: z.array(
    z.object({ min_confidence: z.number(), coverage: z.number(), accuracy: z.number() }),
  ),
})

const warnings = z.array(
  z.object({
    code: z.enum([
      'duplicate_inputs',
      'earlier_answers',
      'label_not_text',
      'dropped_lines',
      'truncated_lines',
      'conflicting_labels',
      'missing_classes',
      'similar_labels',
      'long_labels',
      'base_knows_nothing',
    ]),
    message: z.string(),
    lines: z.array(z.int()),
  }),
)

const gradient = z.object({
  n_steps: count,
  learning_rate: z.number(),
  prompt_dropout: z.number(),
  n_folds: count,
  held_out_loss: z.number(),
  base_loss: z.number(),
})
const auto = z.object({
  budget_seconds: z.number(),
  seconds_spent: z.number(),
  configurations: z.array(
    z.object({
      end: z.enum(['finished', 'abandoned', 'cut']),
      learning_rate: z.number(),
      layers: z.tuple([count, count]),
      decay: z.number(),
      has_scale: z.boolean(),
      prompt_dropout: z.number(),
      n_steps: count,
      held_out_loss: z.number(),
      seconds: z.number(),
    }),
  ),
  chosen: z.array(z.int()),
  strength: z.number(),
  held_out_loss: z.number(),
  base_loss: z.number(),
})

/** What the reports of all objectives have. */
const common = {
  warnings,
  job: z.string(),
  optimizer: z.enum(SEARCH_NAMES),
  n_trials: count,
  gradient: gradient.exactOptional(),
  seed: z.int(),
  scope,
  layers: z.array(count),
  model_digest: digest,
  build_digest: digest,
  best_value: z.number().nullable(),
  best_trial: count.nullable(),
  base_value: z.number(),
  adapter_value: z.number(),
  seconds: z.number(),
}

const labelReport = z.object({
  ...common,
  guard: labelGuard,
  base_knowledge: z.object({
    test: z.literal('one-sided permutation of the right labels, by their log probability'),
    p_value: z.number(),
    level: z.number(),
    num_examples: count,
  }),
  auto: auto.exactOptional(),
  labels: z.array(z.string()),
  adapter_digest: digest.nullable(),
  bias: z.array(z.number()),
  temperature: z.number(),
  train: labelEvaluation,
  validation: labelEvaluation.nullable(),
}) satisfies z.ZodType<JobReport>

const textGuardFields = {
  outcome: z.enum(['proven', 'promising', 'no_gain']),
  summary: z.string(),
  would_publish: z.literal('adapter').nullable(),
  answer: z.literal('adapter'),
  enforced: z.boolean(),
  forced: z.boolean(),
  test: z.enum([
    'paired one-sided sign-flip of out-of-fold log probability',
    'paired one-sided sign-flip of out-of-fold score',
    'paired one-sided sign-flip of out-of-fold preference',
  ]),
  level: z.number(),
  power: z.number(),
  more_examples: count.nullable(),
  folds: count,
  trials_per_fold: count,
  against: z.literal('base'),
  p_value: z.number(),
  gain: z.number(),
  interval,
  smallest_detectable_gain: z.number().nullable(),
}

/** A report on texts whose base and adapter are measured as `metrics` says. */
const textReport = <Metrics extends z.ZodType>(metrics: Metrics) => {
  const both = z.object({ base: metrics, adapter: metrics })
  return z.object({
    ...common,
    guard: z.object({ ...textGuardFields, out_of_fold: both }),
    adapter_digest: digest,
    train: both,
    validation: both.nullable(),
  })
}

const targetReport = textReport(
  z.object({
    num_examples: count,
    num_tokens: count,
    log_loss: z.number(),
    perplexity: z.number(),
  }),
).extend({ objective: z.literal('target') }) satisfies z.ZodType<TargetReport>

const preferenceReport = textReport(
  z.object({
    num_pairs: count,
    preferred_share: z.number(),
    mean_gap: z.number(),
    log_loss: z.number(),
  }),
).extend({
  objective: z.literal('preference'),
  beta: z.number(),
}) satisfies z.ZodType<PreferenceReport>

const graded = z.object({ text: z.string(), score: z.number() })
const rewardReport = textReport(z.object({ num_examples: count, mean_score: z.number() })).extend({
  objective: z.literal('reward'),
  rounds: z
    .object({
      n_rounds: count,
      n_samples: count,
      n_steps: count,
      learning_rate: z.number(),
      n_folds: count,
      chosen_round: count,
      scores: z.array(z.object({ drawn: z.number().nullable(), held_out: z.number() })),
    })
    .exactOptional(),
  beta: z.number().exactOptional(),
  num_draws: count,
  grader: textGraderSchema,
  generation: generationSchema,
  samples: z.array(z.object({ base: graded, adapter: graded, input: z.string() })),
}) satisfies z.ZodType<RewardReport>

export const report = z
  .union([labelReport, targetReport, preferenceReport, rewardReport])
  .describe('How the job went, and whether what it learnt helps.')
