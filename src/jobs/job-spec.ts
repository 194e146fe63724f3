import type { Geometry } from '../../adapters/rotation/rotation.ts'
import type { NewVersion } from '../db/versions.ts'
import type {
  GuardMode,
  PublishFrom,
  TooLong,
  JobCheckpoint,
  JobError,
  JobStatus,
  OptimiserName,
  SubspaceName,
} from '../protocol/openai/fine-tuning.ts'
import type { JobWarning } from '../protocol/openai/job-report.ts'
import type { Objective } from '../protocol/openai/objective.ts'
import type { AnyReport } from '../protocol/openai/text-report.ts'
import type { GenerationOptions, TextGrader } from '../protocol/openai/graders.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import type { Scope } from '../protocol/runner.ts'
import type { Frame } from '../tasks/frame.ts'

/** Examples as a runner scores them, kept in R2 while the job runs. */
export type StoredDataset = {
  readonly blobKey: string
  /** SHA-256 of the blob, by which runners know it. */
  readonly digest: string
  /** The right label of each example, by index; 0 for each where the answers are targets. */
  readonly gold: readonly number[]
}

/** All that a job is told; never changes. */
export type JobSpec = {
  readonly projectId: string
  readonly id: string
  readonly createdAtMs: number
  readonly model: string
  readonly task: string
  /** As its owner gave it; jobs of older releases lack it, and theirs is the task's name. */
  readonly suffix?: string | null
  readonly trainingFile: string
  readonly validationFile: string | null
  readonly metadata: Readonly<Record<string, string>> | null
  readonly seed: number
  readonly optimiser: OptimiserName
  /** Evaluations in all; under `gradient` one a step and one before the first. */
  readonly numTrials: number
  /** Of the optimiser `gradient` alone; jobs of older releases have none. */
  readonly gradient: {
    readonly numSteps: number
    readonly learningRate: number
    /** Jobs of older releases have none. */
    readonly promptDropout?: number
  } | null
  /** Of the optimiser `auto` alone; jobs of older releases have none. */
  readonly auto?: { readonly budgetSeconds: number } | null
  /** Of the optimisers `raft` and `iterative-dpo` alone. */
  readonly rounds?: {
    readonly numRounds: number
    readonly numSamples: number
    readonly numSteps: number
    readonly learningRate: number
  } | null
  /** Of the optimiser `bo` alone; jobs of older releases have none and search a random one. */
  readonly subspace?: SubspaceName | null
  readonly scope: Scope
  readonly frame: Frame
  readonly objective: Objective
  /** Of the objective "preference", and of the optimiser `iterative-dpo`. */
  readonly beta?: number | null
  /** Of the objective "reward" alone, as `generation`. */
  readonly grader?: TextGrader | null
  readonly generation?: GenerationOptions | null
  /** None where the answers are targets. */
  readonly labels: readonly string[]
  /** Whether the guard's finding decides what goes live, or only stands in the report. */
  readonly guard: GuardMode
  /** The least outcome that goes live by itself; jobs of older releases have none, which is "proven". */
  readonly publish?: PublishFrom
  /** Jobs of older releases have none, which is "error". */
  readonly tooLong?: TooLong
  /** Publish the adapter whatever the guard finds. */
  readonly force: boolean
  readonly confidence: Confidence | null
  /** Equal for training examples of one input, which stay in one fold. */
  readonly groups: readonly number[]
  readonly warnings: readonly JobWarning[]
  readonly training: StoredDataset
  readonly validation: StoredDataset | null
}

/** What is served, pinned by the first runner: values of two builds are not comparable. */
export type PinnedModel = {
  readonly modelDigest: string
  readonly buildDigest: string
  readonly geometry: Geometry
  /** Prompt tokens of all training examples. */
  readonly promptTokens: number
  /** Tokens of each example's target; absent under labels. */
  readonly targetTokens?: {
    readonly training: readonly number[]
    readonly validation: readonly number[]
  }
}

/** Where a job stands; written before each step that follows from it. */
export type JobState = {
  readonly status: JobStatus
  readonly phase:
    | 'preparing'
    | 'searching'
    | 'checkpointing'
    | 'guarding'
    | 'reporting'
    | 'publishing'
    | 'finished'
  readonly pinned: PinnedModel | null
  /** Of pairs: the base model's log probability of each text, from the search's first step on. */
  readonly baseLogProbs?: readonly number[]
  /** Of a search in rounds: the texts that the round under way is fitted to. */
  readonly roundTexts?: StoredDataset
  /** How often the trials began anew because no runner had the pinned build any more. */
  readonly numRestarts: number
  readonly startedAtMs: number | null
  readonly finishedAtMs: number | null
  readonly error: JobError | null
  /**
   * Decided, its adapter stored, and not to be decided again; what the guard keeps back is here too,
   * until its owner asks for it.
   */
  readonly publication: {
    readonly version: NewVersion
    readonly report: AnyReport
    /** Whether the version goes live; states of older releases lack it, and mean that it does. */
    readonly isLive?: boolean
  } | null
  readonly versionNumber: number | null
  /** Versions published before the job's own, in order; jobs of older releases have none. */
  readonly checkpoints?: readonly Checkpoint[]
  /** First of the faults since the last success, and how many. */
  readonly faultSinceMs: number | null
  readonly numFaults: number
  /** Rises with every change that the job's owner can see. */
  readonly revision: number
  /** The last revision that D1 has. */
  readonly projectedRevision: number
  /** Its datasets are deleted. */
  readonly isCleaned: boolean
}

/** A version published on the way, which is not live. */
export type Checkpoint = {
  readonly versionNumber: number
  readonly createdAtMs: number
  /** Trials that it is made of. */
  readonly numTrials: number
  readonly metrics: CheckpointMetrics
}
export type CheckpointMetrics = Omit<JobCheckpoint['metrics'], 'step'>

export const INITIAL_STATE: JobState = {
  status: 'queued',
  phase: 'preparing',
  pinned: null,
  numRestarts: 0,
  startedAtMs: null,
  finishedAtMs: null,
  error: null,
  publication: null,
  versionNumber: null,
  faultSinceMs: null,
  numFaults: 0,
  revision: 1,
  projectedRevision: 0,
  isCleaned: false,
}

/** An evaluation of the search that a fold's examples have no part in. */
export type FoldTrial = Omit<Trial, 'round'> & { readonly fold: number }

/**
 * One evaluation. Under `gradient` the candidate of all examples after `index` steps, without z; under
 * `auto` the base model, then a configuration each, with what its folds' held-out examples came to; in
 * rounds the candidates after `index` of them, with what their held-out texts score.
 */
export type Trial = {
  readonly round: number
  readonly index: number
  readonly z: readonly number[]
  readonly value: number | null
}
