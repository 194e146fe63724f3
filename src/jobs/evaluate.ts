import type { Geometry, Rotation } from '../../adapters/rotation/rotation.ts'
import { RunnerCallFailure, RunnerRefusal, type RunnerClient } from '../dispatch/runner-client.ts'
import { type Scope } from '../protocol/runner.ts'
import { MAX_SCORE_CANDIDATES } from '../protocol/runner-scoring.ts'
import { readBlob } from '../storage/blobs.ts'
import type { StoredDataset } from './job-spec.ts'
import { packCandidates } from './pack-candidates.ts'

/**
 * Candidates times examples of one call: enough to fill a runner's batches, few enough that a call
 * ends within seconds and a cancelled job is noticed.
 */
const MAX_ROWS_PER_CALL = 512
/** Times labels as well, where those are many: each takes a third of a decode step, or so. */
const MAX_LABEL_ROWS_PER_CALL = 8192
/** Times tokens as well, where the answers are targets: some 30 s of a core. */
const MAX_TARGET_ROWS_PER_CALL = 4096

/** A runner computes prompts in groups of as many; calls that share groups share their prompts. */
export const GROUP_LEN = 32

/** The order of a call's examples; by index where the evaluation names none. */
export const exampleOrder = ({ order, dataset }: Evaluation): readonly number[] =>
  order ?? dataset.gold.map((_, example) => example)

/** Whether a call is of all examples by index, and so need not name them. */
export const isInOrder = (examples: readonly number[], numExamples: number): boolean =>
  examples.length === numExamples && examples.every((example, i) => example === i)

export type Evaluation = {
  readonly client: RunnerClient
  readonly blobs: R2Bucket
  readonly dataset: StoredDataset
  /** In what order the examples are asked for, which says what a runner computes together. */
  readonly order?: readonly number[]
  readonly scope: Scope
  readonly geometry: Geometry
  readonly buildDigest: string
  /** None where the answers are targets. */
  readonly numLabels: number
  /** Tokens of the dataset's longest target; null under labels. */
  readonly longestTarget: number | null
  readonly signal: AbortSignal
}

/** Candidates times examples that one call may hold. */
export const rowsPerCall = ({ longestTarget }: Pick<Evaluation, 'longestTarget'>): number =>
  longestTarget === null
    ? MAX_ROWS_PER_CALL
    : Math.max(1, Math.floor(MAX_TARGET_ROWS_PER_CALL / longestTarget))

/** The same of a call that scores: whole groups of prompts, one at least. */
function scoreRowsPerCall(evaluation: Evaluation): number {
  const maxRows = rowsPerCall(evaluation)
  if (evaluation.longestTarget !== null) return maxRows
  const fitting = Math.min(maxRows, MAX_LABEL_ROWS_PER_CALL / evaluation.numLabels)
  return Math.max(1, Math.floor(fitting / GROUP_LEN)) * GROUP_LEN
}

/**
 * Scores rotations on a dataset.
 * @returns `[candidate][example][label]`: log P(label), no bias; of targets one value an example
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
    throw new RunnerCallFailure('protocol', 'scores are of another build than was asked for')
  }
  const isShaped =
    response.log_probs.length === rotations.length &&
    response.log_probs.every((rows) => rows.length === examples.length)
  if (!isShaped) throw new RunnerCallFailure('protocol', 'scores are not of the shape asked for')
  return response.log_probs
}

/** Makes a call that needs the dataset, pushing it where the runner has lost it. */
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

/** Gives a runner the job's examples. @returns what it made of them */
export async function pushDataset(
  evaluation: Pick<Evaluation, 'client' | 'blobs' | 'dataset' | 'signal'>,
  use: 'score' | 'gradient' = 'score',
) {
  const { client, blobs, dataset, signal } = evaluation
  const bytes = await readBlob(blobs, dataset.blobKey, dataset.digest)
  if (bytes === null) throw new Error(`dataset blob ${dataset.blobKey} is missing`)
  return client.putDataset(dataset.digest, bytes, signal, use)
}
