import { fail, ok, type Result } from '../../result.ts'
import type { GradientState } from './gradient.ts'

/** Raised when the meaning of the bytes changes. */
const STATE_VERSION = 3
/** Version, number of losses, length of the candidates' values, folds, examples, steps so far. */
const HEADER_WORDS = 6

export type GradientStateError = { readonly reason: 'version' | 'length' }

/**
 * Encodes a search's state, little-endian and exact, so that a resumed search takes the same steps:
 *
 * - six uint32s (`HEADER_WORDS`)
 * - float64 losses: the averaged held-out loss; per step the train loss, the held-out loss and one per
 *   fold; then all examples' train losses and all examples' held-out losses
 * - float32 values, means and squares of all candidates, and their average
 */
export function encodeGradientState(state: GradientState): Uint8Array<ArrayBuffer> {
  const { history, numStepsDone, trainLosses, heldOutLosses, adam, average, heldOutLoss } = state
  const { values, mean, square } = adam
  const numFolds = history[0]?.foldLosses.length ?? 0
  const head = [
    STATE_VERSION,
    history.length,
    values.length,
    numFolds,
    trainLosses.length,
    numStepsDone,
  ]
  const losses = history.flatMap((step) => [step.trainLoss, step.heldOutLoss, ...step.foldLosses])
  const parts = [
    Uint32Array.from(head),
    Float64Array.from([heldOutLoss, ...losses]),
    trainLosses,
    heldOutLosses,
    values,
    mean,
    square,
    average,
  ]
  const bytes = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at)
    at += part.byteLength
  }
  return bytes
}

/** Reads the output of `encodeGradientState`. */
export function decodeGradientState(bytes: Uint8Array): Result<GradientState, GradientStateError> {
  if (bytes.length < HEADER_WORDS * 4) return fail({ reason: 'length' })
  let at = 0
  // Copied, because a part need not lie at a multiple of its element size.
  const take = (length: number): ArrayBuffer => bytes.slice(at, (at += length)).buffer
  const [version, numLosses, numValues, numFolds, numExamples, numStepsDone] = new Uint32Array(
    take(HEADER_WORDS * 4),
  ) as unknown as [number, number, number, number, number, number]
  if (version !== STATE_VERSION) return fail({ reason: 'version' })
  const perStep = 2 + numFolds
  const numDoubles = 1 + numLosses * perStep + 2 * numExamples
  if (bytes.length !== at + numDoubles * 8 + 4 * numValues * 4) return fail({ reason: 'length' })
  const doubles = (length: number): Float64Array => new Float64Array(take(length * 8))
  const floats = (): Float32Array => new Float32Array(take(numValues * 4))
  const heldOutLoss = doubles(1)[0]!
  const losses = doubles(numLosses * perStep)
  return ok({
    heldOutLoss,
    history: Array.from({ length: numLosses }, (_, i) => {
      const [trainLoss, ownLoss, ...foldLosses] = losses.subarray(
        i * perStep,
        (i + 1) * perStep,
      ) as unknown as [number, number, ...number[]]
      return { trainLoss, heldOutLoss: ownLoss, foldLosses }
    }),
    numStepsDone,
    trainLosses: doubles(numExamples),
    heldOutLosses: doubles(numExamples),
    adam: { values: floats(), mean: floats(), square: floats() },
    average: floats(),
  })
}
