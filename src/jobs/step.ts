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
import type { NumberedExample } from './read-examples.ts'
import type { RewardSet } from './rewards/reward-set.ts'

/** What a step of a job is given. */
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
  /** Empty under a search that holds folds of its own out. */
  readonly foldTrials: readonly FoldTrial[]
  /** What a search keeps beside its trials; null at its start, or where it keeps nothing. */
  readonly searchState: Uint8Array | null
  /** Aborted when the job is cancelled. */
  readonly signal: AbortSignal
}

/** What a step changes; written in one transaction, or not at all. */
export type Transition = {
  readonly state: Partial<JobState>
  readonly events?: readonly NewEvent[]
  readonly trials?: readonly Trial[]
  readonly foldTrials?: readonly FoldTrial[]
  /** Replaces the search's state. */
  readonly search?: Uint8Array
  readonly forgetTrials?: boolean
}

/** A way to search: one record each in `searches/`, all of them in the table of `searches/searches.ts`. */
export interface SearchKind {
  /** The hyperparameters that a request may give it. */
  readonly hyperparameters: readonly HyperparameterName[]
  /** Gradients want the training examples batch by batch and fold by fold; scores want them by index. */
  readonly datasetUse: 'score' | 'gradient'
  /** Into how many folds the training examples are divided at most. */
  readonly maxFolds: number
  /** Searches that the guard makes once a fold; null where the search itself holds folds out. */
  readonly foldSearch: FoldSearch | null
  /** Whether it draws texts and chooses among them by their grades, so that it needs a grader. */
  readonly drawsTexts?: boolean
  /** Whether it fits pairs that it draws itself, so that `beta` applies under any objective. */
  readonly drawsPairs?: boolean

  /** What a new job keeps of its hyperparameters, nothing left open. */
  settle(given: GivenHyperparameters, method: SettledMethod): SettledHyperparameters
  /** The hyperparameters as the job shows them. */
  showHyperparameters(spec: JobSpec): ShownHyperparameters
  /** For the job's first event: "at most 24 steps". */
  describeBudget(spec: JobSpec): string
  /** How long the whole search may take, where a time ends it and not its trials alone. */
  budgetMs?(spec: JobSpec): number
  /** Blobs that its steps store, to be deleted when the job has ended. */
  blobKeys?(spec: JobSpec): readonly string[]
  /** Texts of each prompt and rotation that a report on generated texts measures; 1 by default. */
  countReportDraws?(spec: JobSpec): number

  /**
   * One step: ask, evaluate, tell. The last one goes on to the phase "reporting", or to "guarding"
   * where there is a `foldSearch`. A crash repeats it.
   */
  stepSearch(context: StepContext, pinned: PinnedModel): Promise<Transition>
  /** What the search would end with now; null where nothing was measured yet. */
  searchResult(context: StepContext, pinned: PinnedModel): SearchResult | null
  /** For each fold what the search finds without its examples, before it is rounded to a file. */
  outOfFoldRotations(context: StepContext, pinned: PinnedModel): Rotation[]
}

export interface FoldSearch {
  /** Trials of each fold's search. */
  countTrials(spec: JobSpec): number
  /** One step of all folds' searches; the last one goes on to the phase "reporting". */
  stepFolds(context: StepContext, pinned: PinnedModel): Promise<Transition>
}

/** What a search has found, and the trial that gave it. */
export type SearchResult = {
  readonly rotation: Rotation
  readonly index: number
  readonly value: number
  /** What the job's report says of the search. */
  readonly report?: SearchReport
}

export type SearchReport = {
  readonly gradient?: GradientReport
  readonly auto?: AutoReport
  readonly rounds?: RoundsReport
}

export type SettledMethod = { readonly objective: ObjectiveKind; readonly scope: Scope }
/** A search keeps fields of its own; the others are null. */
export type SettledHyperparameters = Pick<JobSpec, 'numTrials'> &
  Partial<Pick<JobSpec, 'gradient' | 'auto' | 'rounds' | 'subspace'>>

/** What a job learns: one record each in `objectives/`, all of them in the table of `objectives/objectives.ts`. */
export interface ObjectiveKind {
  /** Whether the answers are labels, so that a version has a bias, a temperature and a least confidence. */
  readonly hasLabels: boolean
  /** Whether a line holds two texts, of which one is preferred: `beta` applies, and both are one thing to fit. */
  readonly hasPairs: boolean
  /** Whether runners keep the examples as a dataset; if not, each call sends its prompts. */
  readonly usesDataset: boolean
  /** Whether a runner can differentiate it on the examples. */
  readonly hasGradient: boolean
  /** The only search that can learn it; absent where every search can. */
  readonly onlySearch?: SearchName
  /** Hyperparameters of searches where the request leaves them out. */
  readonly defaults: {
    readonly numTrials: number
    readonly numSteps: number
    readonly promptDropout: number
  }

  readonly lines: ObjectiveLines
  /** For the job's first event: "3 labels". */
  describe(spec: JobSpec): string

  /**
   * What it gives rotations on examples.
   * @returns `[candidate][example][label]`: log P(label); where the answers are texts, one value an
   * example: the sum of a target's log probabilities, or a grade
   */
  measureRotations(
    context: StepContext,
    pinned: PinnedModel,
    dataset: StoredDataset,
    rotations: readonly Rotation[],
  ): Promise<readonly (readonly (readonly number[])[])[]>
  /**
   * A candidate's value to a search, higher is better.
   * @param scores of the training examples, as `measureRotations` gives them
   * @param isSeen examples that count
   */
  valueOf(
    spec: JobSpec,
    pinned: PinnedModel,
    scores: readonly (readonly number[])[],
    isSeen: (example: number) => boolean,
  ): number
  /** How much each training example weighs in a gradient; absent where all weigh the same. */
  exampleSizes?(pinned: PinnedModel): readonly number[]
  /**
   * Answers a gradient search's query.
   * @param base the base model's log probabilities where a query before this one gave them
   */
  differentiate(
    evaluation: Evaluation,
    query: GradientQuery,
    spec: JobSpec,
    base: readonly number[] | null,
  ): Promise<{ readonly answer: GradientAnswer; readonly base: readonly number[] | null }>

  /**
   * Measures what the job and its folds found, and decides by the folds what becomes of it. The adapter
   * is stored before the state says so, and its name is its contents', so that a crash between the two
   * repeats the step without a trace.
   */
  report(context: StepContext, pinned: PinnedModel): Promise<Transition>
  checkpointMetrics(report: AnyReport): CheckpointMetrics
}

/** How the lines of a job's files become its datasets. */
export interface ObjectiveLines {
  /** Who wants which answers, for the error that names lines without them: "the job learns labels". */
  readonly wants: string
  /** Whether a line with such an answer can be learnt. */
  takes(kind: AnswerKind, grader: TextGrader | null): boolean
  /** @param given the labels that the request names; null where it names none */
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
