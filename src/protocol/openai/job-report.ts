/** What a job on labels reports: `arcana.report` of a job. */
import type { Scope } from '../runner.ts'
import type { SearchName } from './search-names.ts'

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

/**
 * What the guard found. `proven`: it helps, and its version is live. `promising`: an estimated gain that
 * is not shown; its version is not live. `bias_only`: a label bias alone helps and is live. `no_gain`:
 * nothing learnt helps. Reports of earlier releases say `published` and `inconclusive`.
 */
export type GuardOutcome = 'proven' | 'promising' | 'bias_only' | 'no_gain'

/** What a learnt answer is compared with. */
export type GuardReference = 'base' | 'calibrated_base' | 'bias_only'

/** A learnt answer on examples that it was not fitted to; positive gains are better. */
export type GuardComparison = {
  /** How often labels dealt out at random fit the predictions as well as the right ones. */
  readonly p_value: number
  /** Balanced accuracy less the base model's. */
  readonly gain: number
  /** 95% by Student's t; null where no label has two examples. */
  readonly interval: readonly [number, number] | null
  /** Balanced accuracy less that of each reference. */
  readonly gains: Readonly<Partial<Record<GuardReference, number>>>
}

/** Whether what was learnt helps, judged on examples that it was not fitted to. */
export type GuardReport = GuardComparison & {
  readonly outcome: GuardOutcome
  /** What was found, what it was compared with, and about how many more examples would settle it. */
  readonly summary: string
  /** What the guard itself would make live; null is nothing. */
  readonly would_publish: 'adapter' | 'bias_only' | null
  /** What the figures above are about, and what the version holds: a rotation, or a label bias alone. */
  readonly answer: 'adapter' | 'bias_only'
  /** False where the job asked for a finding and no more: then an adapter is live in any case. */
  readonly enforced: boolean
  /** Live against an enforced outcome, because the job or its owner asked for it. */
  readonly forced: boolean
  readonly test: 'permutation of the right labels within folds, by out-of-fold log odds'
  readonly against: 'base'
  readonly unit: 'balanced accuracy'
  readonly level: number
  readonly power: number
  /** About how many more examples would settle what is promising; null where nobody can tell. */
  readonly more_examples: number | null
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
    | 'duplicate_inputs'
    | 'earlier_answers'
    | 'label_not_text'
    | 'dropped_lines'
    | 'truncated_lines'
    | 'conflicting_labels'
    | 'missing_classes'
    | 'similar_labels'
    | 'long_labels'
    | 'base_knows_nothing'
  readonly message: string
  /** Ten at most. */
  readonly lines: readonly number[]
}

/** How a rotation was fitted by gradient. */
export type GradientReport = {
  readonly n_steps: number
  readonly learning_rate: number
  /** Share of their own tokens that prompts were read without, others in each step. */
  readonly prompt_dropout: number
  readonly n_folds: number
  /**
   * Mean −log P(right label), or of a target's token, nats, in float32: of examples that a fit had not
   * seen, averaged over its steps as the fit is, and of the base model.
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
    readonly prompt_dropout: number
    readonly n_steps: number
    readonly held_out_loss: number
    readonly seconds: number
  }[]
  /** Configurations, by number from 1, whose angles' mean was published, at a strength. */
  readonly chosen: readonly number[]
  readonly strength: number
  /** Mean −log P(right label), nats, in float32: of what was chosen on examples that it had not seen, and of the base model. */
  readonly held_out_loss: number
  readonly base_loss: number
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
  readonly optimizer: SearchName
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
