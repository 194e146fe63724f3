import type { GradientAnswer, GradientQuery } from '../../adapters/optimise/gradient/gradient.ts'
import type { Result } from '../../adapters/result.ts'
import type { Rotation } from '../../adapters/rotation/rotation.ts'
import type { RunnerPool } from '../dispatch/runner-pool.ts'
import type { Bindings } from '../env.ts'
import type { AnswerKind } from '../files/training-line.ts'
import type { TextGrader } from '../protocol/openai/graders.ts'
import type {
  GivenHyperparameters,
  HyperparameterName,
  ShownHyperparameters,
} from '../protocol/openai/hyperparameters.ts'
import type { AutoReport, GradientReport } from '../protocol/openai/job-report.ts'
import type { SearchName } from '../protocol/openai/search-names.ts'
import type { AnyReport, RoundsReport } from '../protocol/openai/text-report.ts'
import type { Scope } from '../protocol/runner.ts'
import type { Dataset } from '../protocol/runner-scoring.ts'
import type { Frame } from '../tasks/frame.ts'
import type { DatasetError } from './dataset-lines.ts'
import type { Evaluation } from './evaluate.ts'
import type {
  CheckpointMetrics,
  FoldTrial,
  JobSpec,
  JobState,
  PinnedModel,
  StoredDataset,
  Trial,
} from './job-spec.ts'
import type { NewEvent } from './job-store.ts'
import type { NumberedExample } from '../files/read-examples.ts'
import type { RewardSet } from './rewards/reward-set.ts'

/** Everything that a step of a job may need. */
export type StepContext = {
  readonly env: Bindings
  readonly runners: RunnerPool
  readonly spec: JobSpec
  /** The record of the spec's optimiser. */
  readonly search: SearchKind
  /** The record of the spec's objective. */
  readonly objective: ObjectiveKind
  readonly state: JobState
  readonly trials: readonly Trial[]
  /** Empty if the search itself holds folds out. */
  readonly foldTrials: readonly FoldTrial[]
  /** What the search keeps beside its trials; null at its start, and if it keeps nothing. */
  readonly searchState: Uint8Array | null
  /** The state of the running fit of a further partition; null if none has begun. */
  readonly repeatState: Uint8Array | null
  /** Aborted when the job is cancelled. */
  readonly signal: AbortSignal
}

/** What a step changes. All of it is written in one transaction. */
export type Transition = {
  readonly state: Partial<JobState>
  readonly events?: readonly NewEvent[]
  readonly trials?: readonly Trial[]
  readonly foldTrials?: readonly FoldTrial[]
  /** Replaces the search's state. */
  readonly search?: Uint8Array
  /** Replaces the state of a further partition's fit; null ends it. */
  readonly repeat?: Uint8Array | null
  readonly forgetTrials?: boolean
}

/**
 * A way to search. Each is a record in a file of `searches/`; the table in `searches.ts` lists
 * them.
 */
export interface SearchKind {
  /** The hyperparameters that a request may give it. */
  readonly hyperparameters: readonly HyperparameterName[]
  /**
   * Whether runners score the training examples, by index, or differentiate them, by batch and
   * fold.
   */
  readonly datasetUse: 'score' | 'gradient'
  /** The most folds into which the training examples are divided. */
  readonly maxFolds: number
  /** The searches that the guard makes, one a fold; null if the search itself holds folds out. */
  readonly foldSearch: FoldSearch | null
  /** Whether it draws texts and chooses among them by their grades, so that it needs a grader. */
  readonly drawsTexts?: boolean
  /** Whether it fits pairs of texts that it draws, so that `beta` applies under any objective. */
  readonly drawsPairs?: boolean

  /** Settles the hyperparameters of a new job, with defaults for those left out. */
  settle(given: GivenHyperparameters, method: SettledMethod): SettledHyperparameters
  /** The hyperparameters as the job shows them. */
  showHyperparameters(spec: JobSpec): ShownHyperparameters
  /** How much the search may do, for the job's first event: "at most 24 steps". */
  describeBudget(spec: JobSpec): string
  /** How long the whole search may take; absent unless a time limit ends it. */
  budgetMs?(spec: JobSpec): number
  /** Blobs that its steps store. They are deleted when the job has ended. */
  blobKeys?(spec: JobSpec): readonly string[]
  /** How many texts of each prompt and rotation a report on generated texts grades; 1 by default. */
  countReportDraws?(spec: JobSpec): number

  /**
   * Takes one step: ask, evaluate, tell. The last step goes on to the phase "guarding" if there is a
   * `foldSearch`, else to "reporting". A crash repeats the step.
   */
  stepSearch(context: StepContext, pinned: PinnedModel): Promise<Transition>
  /** What the search would end with now; null if nothing has been measured yet. */
  searchResult(context: StepContext, pinned: PinnedModel): SearchResult | null
  /** For each fold, what is found without its examples, not yet rounded to what a file holds. */
  outOfFoldRotations(context: StepContext, pinned: PinnedModel): Rotation[]
}

export interface FoldSearch {
  /** How many trials each fold's search makes. */
  countTrials(spec: JobSpec): number
  /** Takes one step of all folds' searches. The last step goes on to the phase "reporting". */
  stepFolds(context: StepContext, pinned: PinnedModel): Promise<Transition>
}

/** What a search has found, and the trial in which. */
export type SearchResult = {
  readonly rotation: Rotation
  readonly index: number
  readonly value: number
  /** What the job's report says about the search. */
  readonly report?: SearchReport
}

export type SearchReport = {
  readonly gradient?: GradientReport
  readonly auto?: AutoReport
  readonly rounds?: RoundsReport
}

export type SettledMethod = { readonly objective: ObjectiveKind; readonly scope: Scope }
/** Each search sets its own fields; the others are null. */
export type SettledHyperparameters = Pick<JobSpec, 'numTrials'> &
  Partial<Pick<JobSpec, 'gradient' | 'auto' | 'rounds' | 'subspace'>>

/**
 * What a job learns. Each is a record in a file of `objectives/`; the table in `objectives.ts`
 * lists them.
 */
export interface ObjectiveKind {
  /**
   * Whether the answers are labels, so that a version has a bias, a temperature and a
   * `min_confidence`.
   */
  readonly hasLabels: boolean
  /**
   * Whether a line holds two texts of which one is preferred. They are fitted together, by `beta`.
   */
  readonly hasPairs: boolean
  /** Whether a runner keeps the examples as a dataset. If not, each call sends its prompts. */
  readonly usesDataset: boolean
  /** Whether a runner can differentiate the objective on the examples. */
  readonly hasGradient: boolean
  /** The only search that can learn it; absent where every search can. */
  readonly onlySearch?: SearchName
  /** Hyperparameters for requests that leave them out. */
  readonly defaults: {
    readonly numTrials: number
    readonly numSteps: number
    readonly promptDropout: number
  }

  readonly lines: ObjectiveLines
  /** What the job learns, for its first event: "3 labels". */
  describe(spec: JobSpec): string

  /**
   * Measures rotations on examples.
   * @returns `[candidate][example][label]`: log P(label). If the answers are texts, an example has
   * one value: the sum of its target's log probabilities, or a grade.
   */
  measureRotations(
    context: StepContext,
    pinned: PinnedModel,
    dataset: StoredDataset,
    rotations: readonly Rotation[],
  ): Promise<readonly (readonly (readonly number[])[])[]>
  /**
   * The value of a candidate to a search; higher is better.
   * @param scores what `measureRotations` gives the candidate on the training examples
   * @param isSeen whether an example counts
   */
  valueOf(
    spec: JobSpec,
    pinned: PinnedModel,
    scores: readonly (readonly number[])[],
    isSeen: (example: number) => boolean,
  ): number
  /** How much each training example weighs in a gradient; absent if all weigh the same. */
  exampleSizes?(pinned: PinnedModel): readonly number[]
  /**
   * Answers a query of a gradient search.
   * @param base the base model's log probabilities, if an earlier query gave them; else null
   */
  differentiate(
    evaluation: Evaluation,
    query: GradientQuery,
    spec: JobSpec,
    base: readonly number[] | null,
  ): Promise<{ readonly answer: GradientAnswer; readonly base: readonly number[] | null }>

  /**
   * Measures what the job and its folds found, and decides by the folds' results what to do with it.
   * The adapter is stored under its digest before the state names it, so that a step that a crash
   * repeats stores the same adapter again.
   */
  report(context: StepContext, pinned: PinnedModel): Promise<Transition>
  checkpointMetrics(report: AnyReport): CheckpointMetrics
}

/** How the lines of a job's files become its datasets. */
export interface ObjectiveLines {
  /** The beginning of the error that names lines with other answers: "the job learns labels". */
  readonly wants: string
  /** Whether the job can learn from a line with such an answer. */
  takes(kind: AnswerKind, grader: TextGrader | null): boolean
  /** @param given the labels that the request names; null if it names none */
  settleLabels(
    given: readonly string[] | null,
    training: readonly NumberedExample[],
  ): Result<readonly string[], DatasetError>
  toDataset(
    examples: readonly NumberedExample[],
    labels: readonly string[],
    frame: Frame,
    param: DatasetError['param'],
  ): Result<Dataset | RewardSet, DatasetError>
}
