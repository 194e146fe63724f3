import type { Rotation } from '../../adapters/rotation/rotation.ts'
import type { RunnerPool } from '../dispatch/runner-pool.ts'
import type { Bindings } from '../env.ts'
import type {
  GivenHyperparameters,
  ShownHyperparameters,
} from '../protocol/openai/hyperparameters.ts'
import type { AutoReport, GradientReport } from '../protocol/openai/job-report.ts'
import type { Objective } from '../protocol/openai/objective.ts'
import type { RoundsReport } from '../protocol/openai/text-report.ts'
import type { Scope } from '../protocol/runner.ts'
import type { FoldTrial, JobSpec, JobState, PinnedModel, Trial } from './job-spec.ts'
import type { NewEvent } from './job-store.ts'

/** What a step of a job is given. */
export type StepContext = {
  readonly env: Bindings
  readonly runners: RunnerPool
  readonly spec: JobSpec
  /** The record of the spec's optimiser. */
  readonly search: SearchKind
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
  /** Gradients want the training examples batch by batch and fold by fold; scores want them by index. */
  readonly datasetUse: 'score' | 'gradient'
  /** Into how many folds the training examples are divided at most. */
  readonly maxFolds: number
  /** Searches that the guard makes once a fold; null where the search itself holds folds out. */
  readonly foldSearch: FoldSearch | null
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

export type SettledMethod = { readonly objective: Objective; readonly scope: Scope }
/** A search keeps fields of its own; the others are null. */
export type SettledHyperparameters = Pick<JobSpec, 'numTrials'> &
  Partial<Pick<JobSpec, 'gradient' | 'auto' | 'rounds' | 'subspace'>>
