import { fail, ok, type Result } from '../../result.ts'
import type { GradientState } from './gradient.ts'

/** Raised whenever the bytes of a state would be read otherwise. */
const STATE_VERSION = 1
/** Version, number of losses, best step, length of the candidates' values, of the best's. */
const HEADER_WORDS = 5

export type GradientStateError = { readonly reason: 'version' | 'length' }

/**
 * A search's state as bytes: five uint32s, then float64 losses (train, held out), then float32
 * values, means and squares of all candidates and the best values. Little-endian, and exact: a
 * search that goes on from them takes the steps it would have taken.
 */
export function encodeGradientState({
  history,
  adam,
  best,
  bestStep,
}: GradientState): Uint8Array<ArrayBuffer> {
  const { values, mean, square } = adam
  const head = Uint32Array.of(STATE_VERSION, history.length, bestStep, values.length, best.length)
  const losses = Float64Array.from(
    history.flatMap(({ trainLoss, heldOutLoss }) => [trainLoss, heldOutLoss]),
  )
  const parts = [head, losses, values, mean, square, best]
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
  // Copied, since the parts need not stand at their own alignment.
  const cut = (at: number, length: number): ArrayBuffer => bytes.slice(at, at + length).buffer
  if (bytes.length < HEADER_WORDS * 4) return fail({ reason: 'length' })
  const [version, numLosses, bestStep, numValues, numBest] = new Uint32Array(
    cut(0, HEADER_WORDS * 4),
  ) as unknown as [number, number, number, number, number]
  if (version !== STATE_VERSION) return fail({ reason: 'version' })
  const lossesAt = HEADER_WORDS * 4
  const valuesAt = lossesAt + numLosses * 16
  if (bytes.length !== valuesAt + (3 * numValues + numBest) * 4) return fail({ reason: 'length' })
  const losses = new Float64Array(cut(lossesAt, numLosses * 16))
  const floats = (index: number, length: number): Float32Array =>
    new Float32Array(cut(valuesAt + index * numValues * 4, length * 4))
  return ok({
    history: Array.from({ length: numLosses }, (_, i) => ({
      trainLoss: losses[2 * i]!,
      heldOutLoss: losses[2 * i + 1]!,
    })),
    adam: {
      values: floats(0, numValues),
      mean: floats(1, numValues),
      square: floats(2, numValues),
    },
    best: floats(3, numBest),
    bestStep,
  })
}
