import type { PartitionPredictions } from '../../adapters/guard/repeats.ts'
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
  /**
   * The index of each example's right label; 0 for every example unless the objective is "label".
   */
  readonly gold: readonly number[]
}

/** A job as it was created. It never changes. */
export type JobSpec = {
  readonly projectId: string
  readonly id: string
  readonly createdAtMs: number
  readonly model: string
  readonly task: string
  /** The owner's own text. Jobs of older releases lack it; for them the task's name is shown. */
  readonly suffix?: string | null
  readonly trainingFile: string
  readonly validationFile: string | null
  readonly metadata: Readonly<Record<string, string>> | null
  readonly seed: number
  readonly optimiser: SearchName
  /**
   * The most trials of the search. In a search by steps or rounds, the first measures the base
   * model.
   */
  readonly numTrials: number
  /** Only the search `gradient` has this; for other jobs it is null. */
  readonly gradient: {
    readonly numSteps: number
    readonly learningRate: number
    /** A job of an older release lacks this and drops nothing. */
    readonly promptDropout?: number
  } | null
  /** Only the search `auto` has this; a job of an older release may lack the field. */
  readonly auto?: { readonly budgetSeconds: number } | null
  /** Only the searches `raft` and `iterative-dpo` have this. */
  readonly rounds?: {
    readonly numRounds: number
    readonly numSamples: number
    readonly numSteps: number
    readonly learningRate: number
  } | null
  /** Only the search `bo` has this; a job of an older release may lack it and searches at random. */
  readonly subspace?: SubspaceName | null
  readonly scope: Scope
  readonly frame: Frame
  readonly objective: Objective
  /**
   * Only jobs that fit pairs have this: the objective "preference" and the search `iterative-dpo`.
   */
  readonly beta?: number | null
  /** Only the objective "reward" has a grader and a `generation`. */
  readonly grader?: TextGrader | null
  readonly generation?: GenerationOptions | null
  /** Empty unless the objective is "label". */
  readonly labels: readonly string[]
  /**
   * "enforce": the guard decides whether the version goes live. "report": it only writes its
   * finding.
   */
  readonly guard: GuardMode
  /**
   * The weakest outcome with which the version goes live; a job of an older release means "proven".
   */
  readonly publish?: PublishFrom
  /** What happens to lines that do not fit the context; a job of an older release means "error". */
  readonly tooLong?: TooLong
  /** Whether the adapter is published whatever the guard finds. */
  readonly force: boolean
  readonly confidence: Confidence | null
  /** Of the versions that the job makes; a job of an older release lacks both. */
  readonly tags?: readonly string[] | null
  readonly notes?: string | null
  /** Training examples with the same input have the same number and stay in one fold. */
  readonly groups: readonly number[]
  readonly warnings: readonly JobWarning[]
  readonly training: StoredDataset
  readonly validation: StoredDataset | null
}

/**
 * The model that the job's first runner served. The job keeps to it: values of two builds differ.
 */
export type PinnedModel = {
  readonly modelDigest: string
  readonly buildDigest: string
  readonly geometry: Geometry
  /** The prompt tokens of all training examples together. */
  readonly promptTokens: number
  /** How many tokens each example's target has; absent unless the answers are targets. */
  readonly targetTokens?: {
    readonly training: readonly number[]
    readonly validation: readonly number[]
  }
}

/** How far a job has come. It is written before the step that follows from it. */
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
  /** The base model's log probability of each text of the pairs. The first step measures it. */
  readonly baseLogProbs?: readonly number[]
  /** The texts that a search in rounds fits in the current round. */
  readonly roundTexts?: StoredDataset
  /** How often the trials began anew because no runner had the pinned build any more. */
  readonly numRestarts: number
  readonly startedAtMs: number | null
  readonly finishedAtMs: number | null
  readonly error: JobError | null
  /**
   * The version that the job decided to publish, and its report; its adapter is stored. If the guard
   * kept the version back, it stays here until the owner asks for it.
   */
  readonly publication: {
    readonly version: NewVersion
    readonly report: AnyReport
    /**
     * Whether the version goes live. A state of an older release lacks it and means that it does.
     */
    readonly isLive?: boolean
  } | null
  readonly versionNumber: number | null
  /**
   * The adapter's predictions of further partitions of the examples, in order; absent unless the first
   * partition left a doubt.
   */
  readonly repeats?: readonly PartitionPredictions[]
  /**
   * Versions that the job published before its last one, in order. Jobs of older releases have
   * none.
   */
  readonly checkpoints?: readonly Checkpoint[]
  /** When the first fault since the last success came, and how many have come. */
  readonly faultSinceMs: number | null
  readonly numFaults: number
  /** Rises with every change that the job's owner can see. */
  readonly revision: number
  /** The revision that D1 has. */
  readonly projectedRevision: number
  /** Whether the job's datasets have been deleted. */
  readonly isCleaned: boolean
}

/** A version that the job published while its search went on; it is not live. */
export type Checkpoint = {
  readonly versionNumber: number
  readonly createdAtMs: number
  /** How many trials the job had made. */
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

/** A trial of the guard's search that leaves out the examples of one fold. */
export type FoldTrial = Omit<Trial, 'round'> & { readonly fold: number }

/**
 * One evaluation of a search. A search by values measures the candidate `z`. `gradient` measures
 * the candidate after `index` steps and has no `z`. `auto` measures the base model, then in each
 * trial one configuration on held-out examples. A search in rounds grades held-out texts after
 * `index` rounds.
 */
export type Trial = {
  readonly round: number
  readonly index: number
  readonly z: readonly number[]
  readonly value: number | null
}
