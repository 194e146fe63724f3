import { fail, ok, type Result } from '../../result.ts'
import type { GradientState } from './gradient.ts'

/** Raised whenever the bytes of a state would be read otherwise. */
const STATE_VERSION = 3
/** Version, number of losses, best step, length of the candidates' values, of the best's, folds, examples,
 * steps taken. */
const HEADER_WORDS = 8

export type GradientStateError = { readonly reason: 'version' | 'length' }

/**
 * A search's state as bytes: eight uint32s and each fold's best step, then float64 losses (of each step
 * train, held out and one a fold; of each example train, then held out), then float32 values, means
 * and squares of all candidates, the best values and the folds' best. Little-endian, and exact: a search that goes on from them takes the steps it
 * would have taken.
 */
export function encodeGradientState(state: GradientState): Uint8Array<ArrayBuffer> {
  const { history, numTaken, adam, best, bestStep, foldBest, foldBestSteps } = state
  const { values, mean, square } = adam
  const numFolds = foldBestSteps.length
  const numExamples = state.trainLosses.length
  const head = [STATE_VERSION, history.length, bestStep, values.length, best.length, numFolds]
  const losses = history.flatMap(({ trainLoss, heldOutLoss, foldLosses }) => [
    trainLoss,
    heldOutLoss,
    ...foldLosses,
  ])
  const parts = [
    Uint32Array.from([...head, numExamples, numTaken, ...foldBestSteps]),
    Float64Array.from(losses),
    state.trainLosses,
    state.heldOutLosses,
    values,
    mean,
    square,
    best,
    foldBest,
  ]
  const bytes = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at)
    at += part.byteLength
  }
  return bytes
}

/** Reads what `encodeGradientState` wrote. */
export function decodeGradientState(bytes: Uint8Array): Result<GradientState, GradientStateError> {
  if (bytes.length < HEADER_WORDS * 4) return fail({ reason: 'length' })
  // Copied, since the parts need not stand at their own alignment.
  const cut = (at: number, length: number): ArrayBuffer => bytes.slice(at, at + length).buffer
  const [version, numLosses, bestStep, numValues, numBest, numFolds, numExamples, numTaken] =
    new Uint32Array(cut(0, HEADER_WORDS * 4)) as unknown as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ]
  if (version !== STATE_VERSION) return fail({ reason: 'version' })
  const lossesAt = (HEADER_WORDS + numFolds) * 4
  const lossesLen = numLosses * (2 + numFolds)
  const examplesAt = lossesAt + lossesLen * 8
  let at = examplesAt + 2 * numExamples * 8
  if (bytes.length !== at + (3 * numValues + (1 + numFolds) * numBest) * 4) {
    return fail({ reason: 'length' })
  }
  const steps = new Uint32Array(cut(HEADER_WORDS * 4, numFolds * 4))
  const losses = new Float64Array(cut(lossesAt, lossesLen * 8))
  const floats = (length: number): Float32Array => {
    const values = new Float32Array(cut(at, length * 4))
    at += length * 4
    return values
  }
  return ok({
    history: Array.from({ length: numLosses }, (_, i) => {
      const [trainLoss, heldOutLoss, ...foldLosses] = losses.subarray(
        i * (2 + numFolds),
        (i + 1) * (2 + numFolds),
      ) as unknown as [number, number, ...number[]]
      return { trainLoss, heldOutLoss, foldLosses }
    }),
    numTaken,
    trainLosses: new Float64Array(cut(examplesAt, numExamples * 8)),
    heldOutLosses: new Float64Array(cut(examplesAt + numExamples * 8, numExamples * 8)),
    adam: { values: floats(numValues), mean: floats(numValues), square: floats(numValues) },
    best: floats(numBest),
    bestStep,
    foldBest: floats(numFolds * numBest),
    foldBestSteps: [...steps],
  })
}
