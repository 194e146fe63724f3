/** `/v1/experiments`: a labelled file answered under several selections, and what that shows. */
import { z } from 'zod'
import type { ArcanaProof } from '../openai/chat-completions.ts'
import { pageQuerySchema } from '../openai/files.ts'
import { MAX_ARMS } from '../runner.ts'
import type { Comparison } from './compare.ts'

/** Each row is one call of a runner, and Cloudflare allows a request 1,000 calls. */
export const MAX_EXPERIMENT_ROWS = 500

const DEFAULT_PAGE = 20
const MAX_PAGE = 100
export const experimentsQuerySchema = pageQuerySchema(DEFAULT_PAGE, MAX_PAGE)

export const experimentSchema = z.strictObject({
  /** The base model's slug; the arms name the tasks. */
  model: z.string().min(1).optional(),
  /** A file of labelled examples, of purpose `fine-tune`. */
  file: z.string().min(1),
  /** The first one is what the others are compared with. */
  arms: z.array(z.string().min(1)).min(2).max(MAX_ARMS),
})

/** How an arm does against arm 0 on the same rows. */
export type ArmDifference = {
  /** Accuracy less arm 0's. */
  readonly difference: number
  /** 95% bootstrap interval; null if no row is right in only one of the two. */
  readonly interval: readonly [number, number] | null
  /** McNemar's exact test, two-sided. */
  readonly p_value: number
  /** The same by Holm, over all arms of the experiment. */
  readonly adjusted_p_value: number
  /** Lines that this arm answers right and arm 0 wrong. */
  readonly won: readonly number[]
  /** Lines that this arm answers wrong and arm 0 right. */
  readonly lost: readonly number[]
}

export type ExperimentArm = {
  readonly index: number
  /** The request's text for it. */
  readonly arm: string
  readonly accuracy: number
  readonly balanced_accuracy: number
  /** `[label][answer]`: number of rows, in the order of the experiment's `labels`. */
  readonly confusion: readonly (readonly number[])[]
  /** Null for arm 0. */
  readonly against_first: ArmDifference | null
  readonly mean_first_token_ms: number
  readonly mean_total_ms: number
  readonly completion_tokens: number
  /** Rows that one of its versions learnt from: they say little about it. */
  readonly num_seen_rows: number
  /** Of the first row; every row's was checked. */
  readonly arcana: ArcanaProof
  /** One sentence for people. */
  readonly summary: string
}

export type ExperimentRow = {
  /** In the file, from 1. */
  readonly line: number
  readonly label: string
  /** One for each arm. */
  readonly answers: readonly string[]
}

export type Experiment = {
  readonly id: string
  readonly object: 'arcana.experiment'
  readonly created_at: number
  readonly model: string
  readonly file: string
  readonly frame: NonNullable<Comparison['frame']>
  readonly labels: readonly string[]
  readonly num_rows: number
  readonly arms: readonly ExperimentArm[]
  readonly rows: readonly ExperimentRow[]
  readonly usage: {
    readonly prompt_tokens: number
    readonly completion_tokens: number
    readonly total_tokens: number
  }
  readonly latency_ms: number
}

/** As lists have it: without its rows. */
export type ExperimentSummary = Omit<Experiment, 'rows'>
