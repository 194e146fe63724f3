/** Reports of jobs that learn texts: from targets, from pairs, or by a grader. */
import type { Scope } from '../runner.ts'
import type { SearchName } from './search-names.ts'
import type { GradientReport, GuardOutcome, JobReport, JobWarning } from './job-report.ts'
import type { GenerationOptions, TextGrader } from './graders.ts'

/** How likely the base model or an adapter makes the targets. */
export type TargetMetrics = {
  readonly num_examples: number
  /** The tokens of all targets, with the end of the turn of each. */
  readonly num_tokens: number
  /** Mean negative log probability of a token, nats. */
  readonly log_loss: number
  /** e to the power of `log_loss`. */
  readonly perplexity: number
}

/** How a grader scores the texts of the base model or of an adapter. */
export type RewardMetrics = {
  readonly num_examples: number
  readonly mean_score: number
}

/** Which of two texts the base model or an adapter makes likelier. */
export type PreferenceMetrics = {
  readonly num_pairs: number
  /** Share of pairs whose preferred text is the likelier one. */
  readonly preferred_share: number
  /** Mean of log p(preferred) − log p(rejected), nats. */
  readonly mean_gap: number
  /** Mean −log σ(beta · (gap − the base model's gap)); ln 2 for the base model itself. */
  readonly log_loss: number
}

/** The same measurement for the base model and for the adapter. */
export type Both<T> = { readonly base: T; readonly adapter: T }
export type TargetEvaluation = Both<TargetMetrics>
export type RewardEvaluation = Both<RewardMetrics>
export type PreferenceEvaluation = Both<PreferenceMetrics>

/** Whether what was learnt helps, judged on examples that it was not fitted to. */
export type TextGuardReport<Evaluation> = {
  readonly outcome: Exclude<GuardOutcome, 'bias_only'>
  /** The finding in sentences for the job's owner. */
  readonly summary: string
  /** What the guard by itself would make live; null means nothing. */
  readonly would_publish: 'adapter' | null
  readonly answer: 'adapter'
  /** False under `guard: "report"`, where an adapter goes live whatever the guard finds. */
  readonly enforced: boolean
  /** Whether the version goes live against an enforced outcome, because its owner asked for that. */
  readonly forced: boolean
  readonly test:
    | 'paired one-sided sign-flip of out-of-fold log probability'
    | 'paired one-sided sign-flip of out-of-fold score'
    | 'paired one-sided sign-flip of out-of-fold preference'
  readonly level: number
  readonly power: number
  /**
   * About how many more examples would settle a promising outcome; null where they cannot be
   * estimated.
   */
  readonly more_examples: number | null
  readonly folds: number
  /** The trials of each fold's search; the job's own where the search itself holds folds out. */
  readonly trials_per_fold: number
  readonly against: 'base'
  readonly p_value: number
  /** In nats a token or a pair, or in the grader's unit; positive is better. */
  readonly gain: number
  /** 95% by Student's t; null for a single example. */
  readonly interval: readonly [number, number] | null
  readonly smallest_detectable_gain: number | null
  readonly out_of_fold: Evaluation
}

/** How a search in rounds went. */
export type RoundsReport = {
  readonly n_rounds: number
  readonly n_samples: number
  readonly n_steps: number
  readonly learning_rate: number
  readonly n_folds: number
  /** The round whose texts for held-out prompts scored highest; 0 is the base model. */
  readonly chosen_round: number
  /**
   * Mean scores after 0, 1, 2, … rounds: of the texts drawn to be fitted, and of those for held-out
   * prompts.
   */
  readonly scores: readonly { readonly drawn: number | null; readonly held_out: number }[]
}

type TextReport<Evaluation> = {
  readonly guard: TextGuardReport<Evaluation>
  readonly warnings: readonly JobWarning[]
  readonly job: string
  readonly optimizer: SearchName
  readonly n_trials: number
  /** Only the optimizer `gradient` has this. */
  readonly gradient?: GradientReport
  readonly seed: number
  readonly scope: Scope
  readonly layers: readonly number[]
  readonly adapter_digest: string
  readonly model_digest: string
  readonly build_digest: string
  /**
   * The mean log probability of a token, or the mean score: the best trial's, and below the base
   * model's.
   */
  readonly best_value: number | null
  readonly best_trial: number | null
  readonly base_value: number
  /** The value of the stored adapter, measured again. */
  readonly adapter_value: number
  readonly seconds: number
  readonly train: Evaluation
  readonly validation: Evaluation | null
}

export type TargetReport = TextReport<TargetEvaluation> & { readonly objective: 'target' }

export type PreferenceReport = TextReport<PreferenceEvaluation> & {
  readonly objective: 'preference'
  readonly beta: number
}

/**
 * One example's answers by the same seed. The adapter is that of the fold that left the example
 * out.
 */
export type RewardSample = Both<{ readonly text: string; readonly score: number }> & {
  readonly input: string
}

export type RewardReport = TextReport<RewardEvaluation> & {
  readonly objective: 'reward'
  /** Only the optimizers `raft` and `iterative-dpo` have this. */
  readonly rounds?: RoundsReport
  /** Only the optimizer `iterative-dpo` has this. */
  readonly beta?: number
  /** How many texts of each prompt a score averages. */
  readonly num_draws: number
  /** The grader as the job asked it; a task has its version. */
  readonly grader: TextGrader
  readonly generation: GenerationOptions
  /** A few examples for a reader to judge. */
  readonly samples: readonly RewardSample[]
}

export type AnyReport = JobReport | TargetReport | PreferenceReport | RewardReport

export const isTextReport = (report: AnyReport): report is Exclude<AnyReport, JobReport> =>
  'objective' in report
