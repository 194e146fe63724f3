import type { Geometry, Rotation } from '../../adapters/rotation/rotation.ts'
import { RunnerCallFailure, RunnerRefusal, type RunnerClient } from '../dispatch/runner-client.ts'
import { type Scope } from '../protocol/runner.ts'
import { MAX_SCORE_CANDIDATES } from '../protocol/runner-scoring.ts'
import { readBlob } from '../storage/blobs.ts'
import type { StoredDataset } from './job-spec.ts'
import { packCandidates } from './pack-candidates.ts'

/**
 * The most candidates times examples of one call: enough to fill a runner's batches, and few enough
 * that the call ends within seconds, since a cancelled job waits for it.
 */
const MAX_ROWS_PER_CALL = 512
/** The most candidates times examples times labels. A label takes about a third of a decode step. */
const MAX_LABEL_ROWS_PER_CALL = 8192
/** The most candidates times examples times tokens of a target: about 30 s of a core. */
const MAX_TARGET_ROWS_PER_CALL = 4096

/**
 * A runner computes prompts in groups of this many. Calls with the same groups share their prompts.
 */
export const GROUP_LEN = 32

/** The order in which calls name the examples: by index unless the evaluation has an order. */
export const exampleOrder = ({ order, dataset }: Evaluation): readonly number[] =>
  order ?? dataset.gold.map((_, example) => example)

/** Whether a call holds all examples by index, so that it need not name them. */
export const isInOrder = (examples: readonly number[], numExamples: number): boolean =>
  examples.length === numExamples && examples.every((example, i) => example === i)

export type Evaluation = {
  readonly client: RunnerClient
  readonly blobs: R2Bucket
  readonly dataset: StoredDataset
  /** The order in which calls name the examples. A runner computes neighbours together. */
  readonly order?: readonly number[]
  readonly scope: Scope
  readonly geometry: Geometry
  readonly buildDigest: string
  /** 0 if the answers are targets. */
  readonly numLabels: number
  /** The tokens of the longest target; null if the answers are labels. */
  readonly longestTarget: number | null
  readonly signal: AbortSignal
}

/** How many candidates times examples one call may hold. */
export const rowsPerCall = ({ longestTarget }: Pick<Evaluation, 'longestTarget'>): number =>
  longestTarget === null
    ? MAX_ROWS_PER_CALL
    : Math.max(1, Math.floor(MAX_TARGET_ROWS_PER_CALL / longestTarget))

/** The same for a call that scores. It holds whole groups of prompts, at least one. */
function scoreRowsPerCall(evaluation: Evaluation): number {
  const maxRows = rowsPerCall(evaluation)
  if (evaluation.longestTarget !== null) return maxRows
  const fitting = Math.min(maxRows, MAX_LABEL_ROWS_PER_CALL / evaluation.numLabels)
  return Math.max(1, Math.floor(fitting / GROUP_LEN)) * GROUP_LEN
}

/**
 * Scores rotations on a dataset.
 * @returns `[candidate][example][label]`: log P(label) without a bias. A target has one value
 * instead of one for each label: the sum of its tokens' log probabilities.
 * @throws {RunnerRefusal | RunnerCallFailure}
 */
export async function scoreRotations(
  evaluation: Evaluation,
  rotations: readonly Rotation[],
): Promise<number[][][]> {
  const order = exampleOrder(evaluation)
  const numExamples = order.length
  const maxRows = scoreRowsPerCall(evaluation)
  const numCandidates = Math.max(
    1,
    Math.min(MAX_SCORE_CANDIDATES, Math.floor(maxRows / numExamples)),
  )
  const results: number[][][] = []
  for (let at = 0; at < rotations.length; at += numCandidates) {
    const group = rotations.slice(at, at + numCandidates)
    const merged = group.map(() => new Array<number[]>(numExamples))
    for (let from = 0; from < numExamples; from += maxRows) {
      const examples = order.slice(from, from + maxRows)
      const part = await scoreOnce(evaluation, group, examples)
      part.forEach((rows, candidate) => {
        rows.forEach((row, i) => {
          merged[candidate]![examples[i]!] = row
        })
      })
    }
    results.push(...merged)
  }
  return results
}

async function scoreOnce(
  evaluation: Evaluation,
  rotations: readonly Rotation[],
  examples: readonly number[],
): Promise<number[][][]> {
  const { client, dataset, buildDigest, signal } = evaluation
  const { header, values } = packCandidates(rotations, evaluation.geometry, {
    dataset: dataset.digest,
    build_digest: buildDigest,
    scope: evaluation.scope,
    ...(isInOrder(examples, dataset.gold.length) ? {} : { examples: [...examples] }),
  })
  const response = await withDataset(evaluation, () => client.score(header, values, signal))
  if (response.build_digest !== buildDigest) {
    throw new RunnerCallFailure('malformed', 'the runner computed the scores on another build')
  }
  const isShaped =
    response.log_probs.length === rotations.length &&
    response.log_probs.every((rows) => rows.length === examples.length)
  if (!isShaped)
    throw new RunnerCallFailure('malformed', 'the scores have another shape than was asked for')
  return response.log_probs
}

/** Makes a call that needs the dataset. If the runner has lost it, sends it and calls again. */
export async function withDataset<T>(evaluation: Evaluation, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    const isMissing = error instanceof RunnerRefusal && error.error.code === 'dataset_not_resident'
    if (!isMissing) throw error
  }
  await pushDataset(evaluation)
  return call()
}

/** Sends a runner a job's examples. @returns what the runner says about them */
export async function pushDataset(
  evaluation: Pick<Evaluation, 'client' | 'blobs' | 'dataset' | 'signal'>,
  use: 'score' | 'gradient' = 'score',
) {
  const { client, blobs, dataset, signal } = evaluation
  const bytes = await readBlob(blobs, dataset.blobKey, dataset.digest)
  if (bytes === null) throw new Error(`dataset blob ${dataset.blobKey} is missing`)
  return client.putDataset(dataset.digest, bytes, signal, use)
}
