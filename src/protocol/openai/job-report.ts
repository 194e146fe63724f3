/** `arcana.report` of a job that learns labels. */
import type { Scope } from '../runner.ts'
import type { SearchName } from './search-names.ts'

/** How well the base model or an adapter answers labelled examples. */
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
  /** The base model with a label bias, estimated on the training inputs without their labels. */
  readonly calibrated_base: ClassificationMetrics
  /**
   * The version as it serves: with its bias and temperature, and with its rotation if it has one.
   */
  readonly adapter: ClassificationMetrics
}

/**
 * What the guard found. `proven`: the adapter helps, and its version goes live. `promising`: the
 * adapter seems to help, but the examples do not show it; its version does not go live.
 * `bias_only`: a label bias alone helps and goes live. `no_gain`: nothing learnt helps. Older
 * reports say `published` and `inconclusive`.
 */
export type GuardOutcome = 'proven' | 'promising' | 'bias_only' | 'no_gain'

/** What the guard compares a learnt answer with. */
export type GuardReference = 'base' | 'calibrated_base' | 'bias_only'

/** How a learnt answer does on examples that it was not fitted to. Positive gains are better. */
export type GuardComparison = {
  /** How often labels dealt out at random fit the predictions as well as the right ones. */
  readonly p_value: number
  /** Its balanced accuracy minus the base model's. */
  readonly gain: number
  /** 95% by Student's t; null where no label has two examples. */
  readonly interval: readonly [number, number] | null
  /** Its balanced accuracy minus that of each reference. */
  readonly gains: Readonly<Partial<Record<GuardReference, number>>>
}

/** Whether what was learnt helps, judged on examples that it was not fitted to. */
export type GuardReport = GuardComparison & {
  readonly outcome: GuardOutcome
  /** The finding in sentences for the job's owner. */
  readonly summary: string
  /** What the guard by itself would make live; null means nothing. */
  readonly would_publish: 'adapter' | 'bias_only' | null
  /**
   * What the figures of this report are about and what the version holds: an adapter or a label
   * bias.
   */
  readonly answer: 'adapter' | 'bias_only'
  /** False under `guard: "report"`, where an adapter goes live whatever the guard finds. */
  readonly enforced: boolean
  /** Whether the version goes live against an enforced outcome, because its owner asked for that. */
  readonly forced: boolean
  readonly test:
    | 'permutation of the right labels within folds, by out-of-fold log odds'
    | 'permutation of the right labels, by the mean of several partitions’ out-of-fold log odds'
  readonly against: 'base'
  readonly unit: 'balanced accuracy'
  readonly level: number
  readonly power: number
  /**
   * About how many more examples would settle a promising outcome; null where they cannot be
   * estimated.
   */
  readonly more_examples: number | null
  readonly folds: number
  /**
   * Divisions of the examples into folds by which the adapter was tested: 3 where the first one left a
   * doubt. Reports of older releases lack it; they had one.
   */
  readonly partitions?: number
  /** The trials of each fold's search; the job's own where the search itself holds folds out. */
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
  /**
   * What a `min_confidence` would give: the share of inputs still answered, and how many of them
   * right.
   */
  readonly accuracy_by_coverage: readonly {
    readonly min_confidence: number
    readonly coverage: number
    readonly accuracy: number
  }[]
}

/** Something odd about the examples or the task. */
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
  /** Line numbers of the training file, ten at most. */
  readonly lines: readonly number[]
}

/** How a rotation was fitted by gradient. */
export type GradientReport = {
  readonly n_steps: number
  readonly learning_rate: number
  /** The share of a prompt's own tokens that each step left out. */
  readonly prompt_dropout: number
  readonly n_folds: number
  /**
   * Mean −log P of the right label, or of a target's token, in nats and float32. `held_out_loss` is
   * over the examples that each fold's fit had not seen; `base_loss` is the base model's.
   */
  readonly held_out_loss: number
  readonly base_loss: number
}

/** What `auto` tried, and what it chose. */
export type AutoReport = {
  readonly budget_seconds: number
  /** The time that its calls to runners took, summed. */
  readonly seconds_spent: number
  readonly configurations: readonly {
    /** `abandoned`: it lagged behind the best one. `cut`: the budget was spent. */
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
  /**
   * The configurations, by number from 1, whose angles were averaged; the mean was scaled by
   * `strength`.
   */
  readonly chosen: readonly number[]
  readonly strength: number
  /**
   * Mean −log P(right label), in nats and float32. `held_out_loss` is over examples that the chosen
   * fits had not seen; `base_loss` is the base model's.
   */
  readonly held_out_loss: number
  readonly base_loss: number
}

/** Whether the base model's answers are related to the right ones at all. */
export type BaseKnowledge = {
  readonly test: 'one-sided permutation of the right labels, by their log probability'
  /**
   * How often it does as well when the labels are dealt out at random. No label bias changes this.
   */
  readonly p_value: number
  readonly level: number
  /** Training and validation examples; those of one input count once. */
  readonly num_examples: number
}

export type JobReport = {
  readonly guard: GuardReport
  readonly base_knowledge: BaseKnowledge
  readonly warnings: readonly JobWarning[]
  readonly job: string
  readonly optimizer: SearchName
  readonly n_trials: number
  /** Only the optimizer `gradient` has this. */
  readonly gradient?: GradientReport
  /** Only the optimizer `auto` has this. */
  readonly auto?: AutoReport
  readonly seed: number
  readonly scope: Scope
  readonly labels: readonly string[]
  readonly layers: readonly number[]
  /** Null where the version is a label bias alone. */
  readonly adapter_digest: string | null
  readonly model_digest: string
  readonly build_digest: string
  /**
   * Added to the labels' log probabilities wherever the version serves, in the order of `labels`.
   */
  readonly bias: readonly number[]
  /** Divides the biased log probabilities; fitted to out-of-fold predictions. */
  readonly temperature: number
  /**
   * The value of the search's best trial: the mean log probability of the right label under the
   * bias that suits the trial best, minus a small penalty on that bias. `base_value` has its own
   * best bias too.
   */
  readonly best_value: number | null
  readonly best_trial: number | null
  readonly base_value: number
  /** The value of the stored adapter, measured again. */
  readonly adapter_value: number
  readonly seconds: number
  readonly train: EvaluationReport
  readonly validation: EvaluationReport | null
}
