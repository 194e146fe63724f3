import type { Geometry } from '../../adapters/rotation/rotation.ts'
import type { NewVersion } from '../db/versions.ts'
import type {
  GuardMode,
  PublishFrom,
  TooLong,
  JobCheckpoint,
  JobError,
  JobStatus,
  SearchName,
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
  /** The index of each example's right label; 0 for every example unless the objective is "label". */
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
  readonly optimiser: SearchName
  /** Evaluations in all. Where a search takes steps or rounds, the first one measures the base model. */
  readonly numTrials: number
  /** Only the optimiser `gradient` has this; for other jobs it is null. */
  readonly gradient: {
    readonly numSteps: number
    readonly learningRate: number
    /** A job that an older release made lacks this and drops nothing. */
    readonly promptDropout?: number
  } | null
  /** Only the optimiser `auto` has this; a job that an older release made may lack the field. */
  readonly auto?: { readonly budgetSeconds: number } | null
  /** Only the optimisers `raft` and `iterative-dpo` have this. */
  readonly rounds?: {
    readonly numRounds: number
    readonly numSamples: number
    readonly numSteps: number
    readonly learningRate: number
  } | null
  /** Only the optimiser `bo` has this; where an older release left it out, the subspace is random. */
  readonly subspace?: SubspaceName | null
  readonly scope: Scope
  readonly frame: Frame
  readonly objective: Objective
  /** Only jobs that fit pairs have this: the objective "preference" and the optimiser `iterative-dpo`. */
  readonly beta?: number | null
  /** Only the objective "reward" has a grader and a `generation`. */
  readonly grader?: TextGrader | null
  readonly generation?: GenerationOptions | null
  /** Empty unless the objective is "label". */
  readonly labels: readonly string[]
  /** Whether the guard's finding decides what goes live, or only stands in the report. */
  readonly guard: GuardMode
  /** The least outcome that goes live by itself; "proven" where an older release left it out. */
  readonly publish?: PublishFrom
  /** What happens to lines past the context; "error" where an older release left it out. */
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
  /** The base model's log probability of each text of the pairs, once the first step has measured it. */
  readonly baseLogProbs?: readonly number[]
  /** The texts that a search in rounds fits in its current round. */
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

/** An evaluation in the search that leaves out the fold's examples. */
export type FoldTrial = Omit<Trial, 'round'> & { readonly fold: number }

/**
 * One evaluation of a search. What its numbers mean is the search's own: a search by values measures
 * the candidate `z`; `gradient` measures the candidate after `index` steps and has no `z`; `auto`
 * measures the base model first, then one configuration a trial on held-out examples; a search in
 * rounds grades held-out texts after `index` rounds.
 */
export type Trial = {
  readonly round: number
  readonly index: number
  readonly z: readonly number[]
  readonly value: number | null
}
