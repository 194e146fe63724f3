/** Reports of jobs that learnt texts: from targets, or by what a grader likes. */
import type { Scope } from '../runner.ts'
import type { SearchName } from './search-names.ts'
import type { GradientReport, GuardOutcome, JobReport, JobWarning } from './job-report.ts'
import type { GenerationOptions, TextGrader } from './graders.ts'

/** How likely the targets are under one way of answering. */
export type TargetMetrics = {
  readonly num_examples: number
  /** Tokens of all targets, an end of the turn each among them. */
  readonly num_tokens: number
  /** Mean negative log probability of a token, nats. */
  readonly log_loss: number
  /** e to the power of `log_loss`. */
  readonly perplexity: number
}

/** What a grader says of the texts of one way of answering. */
export type RewardMetrics = {
  readonly num_examples: number
  readonly mean_score: number
}

/** Which of two texts one way of answering makes likelier. */
export type PreferenceMetrics = {
  readonly num_pairs: number
  /** Share of pairs whose preferred text is the likelier one. */
  readonly preferred_share: number
  /** Mean of log p(preferred) − log p(rejected), nats. */
  readonly mean_gap: number
  /** Mean −log σ(beta · (gap − the base model's gap)); ln 2 for the base model itself. */
  readonly log_loss: number
}

/** An answer under the base model and under the adapter. */
export type Both<T> = { readonly base: T; readonly adapter: T }
export type TargetEvaluation = Both<TargetMetrics>
export type RewardEvaluation = Both<RewardMetrics>
export type PreferenceEvaluation = Both<PreferenceMetrics>

/** Whether what was learnt helps, judged on examples that it was not fitted to. */
export type TextGuardReport<Evaluation> = {
  readonly outcome: Exclude<GuardOutcome, 'bias_only'>
  /** What was found, what it was compared with, and about how many more examples would settle it. */
  readonly summary: string
  /** What the guard itself would make live; null is nothing. */
  readonly would_publish: 'adapter' | null
  readonly answer: 'adapter'
  /** False where the job asked for a finding and no more: then an adapter is live in any case. */
  readonly enforced: boolean
  /** Live against an enforced outcome, because the job or its owner asked for it. */
  readonly forced: boolean
  readonly test:
    | 'paired one-sided sign-flip of out-of-fold log probability'
    | 'paired one-sided sign-flip of out-of-fold score'
    | 'paired one-sided sign-flip of out-of-fold preference'
  readonly level: number
  readonly power: number
  /** About how many more examples would settle what is promising; null where nobody can tell. */
  readonly more_examples: number | null
  readonly folds: number
  /** Of each fold's own search; the job's own where the folds are part of it. */
  readonly trials_per_fold: number
  readonly against: 'base'
  readonly p_value: number
  /** Nats a token or a pair, or the grader's own unit; positive is better. */
  readonly gain: number
  /** 95% by Student's t; null for a single example. */
  readonly interval: readonly [number, number] | null
  readonly smallest_detectable_gain: number | null
  readonly out_of_fold: Evaluation
}

/** What a search in rounds did. */
export type RoundsReport = {
  readonly n_rounds: number
  readonly n_samples: number
  readonly n_steps: number
  readonly learning_rate: number
  readonly n_folds: number
  /** By the texts of held-out prompts; 0 is the base model. */
  readonly chosen_round: number
  /** Mean scores after 0, 1, 2, … rounds: of texts drawn to be fitted, and of held-out prompts' texts. */
  readonly scores: readonly { readonly drawn: number | null; readonly held_out: number }[]
}

type TextReport<Evaluation> = {
  readonly guard: TextGuardReport<Evaluation>
  readonly warnings: readonly JobWarning[]
  readonly job: string
  readonly optimizer: SearchName
  readonly n_trials: number
  /** Of the optimizer `gradient`. */
  readonly gradient?: GradientReport
  readonly seed: number
  readonly scope: Scope
  readonly layers: readonly number[]
  readonly adapter_digest: string
  readonly model_digest: string
  readonly build_digest: string
  /** Mean log probability of a token, or mean score: of the search's best trial, and of the base. */
  readonly best_value: number | null
  readonly best_trial: number | null
  readonly base_value: number
  /** Of the adapter as stored, measured again. */
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

/** One example answered both ways, by the same seed, the adapter learnt without it. */
export type RewardSample = Both<{ readonly text: string; readonly score: number }> & {
  readonly input: string
}

export type RewardReport = TextReport<RewardEvaluation> & {
  readonly objective: 'reward'
  /** Of the optimizers `raft` and `iterative-dpo`. */
  readonly rounds?: RoundsReport
  /** Of `iterative-dpo`. */
  readonly beta?: number
  /** Texts of each prompt that the scores are means of. */
  readonly num_draws: number
  /** As it was asked, a task with its version. */
  readonly grader: TextGrader
  readonly generation: GenerationOptions
  /** A few, for a reader to judge. */
  readonly samples: readonly RewardSample[]
}

export type AnyReport = JobReport | TargetReport | PreferenceReport | RewardReport

export const isTextReport = (report: AnyReport): report is Exclude<AnyReport, JobReport> =>
  'objective' in report
