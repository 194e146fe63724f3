import { fail, ok, type Result } from '../../result.ts'
import type { GradientState } from './gradient.ts'

/** Raised whenever the bytes of a state would be read otherwise. */
const STATE_VERSION = 2
/** Version, number of losses, best step, length of the candidates' values, of the best's, folds. */
const HEADER_WORDS = 6

export type GradientStateError = { readonly reason: 'version' | 'length' }

/**
 * A search's state as bytes: six uint32s and each fold's best step, then float64 losses (train, held
 * out, one a fold; NaN where the step did not look), then float32 values, means and squares of all candidates, the best values and
 * the folds' best. Little-endian, and exact: a search that goes on from them takes the steps it
 * would have taken.
 */
export function encodeGradientState(state: GradientState): Uint8Array<ArrayBuffer> {
  const { history, adam, best, bestStep, foldBest, foldBestSteps } = state
  const { values, mean, square } = adam
  const numFolds = foldBestSteps.length
  const head = [STATE_VERSION, history.length, bestStep, values.length, best.length, numFolds]
  const losses = history.flatMap(({ trainLoss, heldOutLoss, foldLosses }) => [
    trainLoss,
    ...(heldOutLoss === null
      ? new Array<number>(1 + numFolds).fill(NaN)
      : [heldOutLoss, ...foldLosses]),
  ])
  const parts = [
    Uint32Array.from([...head, ...foldBestSteps]),
    Float64Array.from(losses),
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
  const [version, numLosses, bestStep, numValues, numBest, numFolds] = new Uint32Array(
    cut(0, HEADER_WORDS * 4),
  ) as unknown as [number, number, number, number, number, number]
  if (version !== STATE_VERSION) return fail({ reason: 'version' })
  const lossesAt = (HEADER_WORDS + numFolds) * 4
  const lossesLen = numLosses * (2 + numFolds)
  let at = lossesAt + lossesLen * 8
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
      return Number.isNaN(heldOutLoss)
        ? { trainLoss, heldOutLoss: null, foldLosses: [] }
        : { trainLoss, heldOutLoss, foldLosses }
    }),
    adam: { values: floats(numValues), mean: floats(numValues), square: floats(numValues) },
    best: floats(numBest),
    bestStep,
    foldBest: floats(numFolds * numBest),
    foldBestSteps: [...steps],
  })
}
