import { fail, ok, type Result } from '../../result.ts'
import type { RoundFitState, RoundScores, RoundState } from './rounds.ts'

/** Raised when the meaning of the bytes changes. */
const STATE_VERSION = 1

export type RoundStateError = { readonly reason: 'version' | 'length' }

/** The state without the float32 arrays. */
type Head = {
  readonly version: number
  readonly history: readonly RoundScores[]
  readonly fit: Pick<RoundFitState, 'kept' | 'numSteps'> | null
  readonly bestRound: number
  readonly foldBestRounds: readonly number[]
  /** Lengths of the arrays that follow, in their order. */
  readonly lengths: readonly number[]
}

/**
 * Encodes a search's state: a uint32 length, that many bytes of JSON, then float32 arrays. Little-endian
 * and exact (JSON keeps float64 exactly), so that a resumed search takes the same steps.
 */
export function encodeRoundState(state: RoundState): Uint8Array<ArrayBuffer> {
  const { history, fit, adam, best, bestRound, foldBest, foldBestRounds } = state
  const arrays = [adam.values, adam.mean, adam.square, best, foldBest]
  if (fit !== null) arrays.push(fit.reference, fit.logProbs)
  const head: Head = {
    version: STATE_VERSION,
    history,
    fit: fit === null ? null : { kept: fit.kept, numSteps: fit.numSteps },
    bestRound,
    foldBestRounds,
    lengths: arrays.map(({ length }) => length),
  }
  const json = new TextEncoder().encode(JSON.stringify(head))
  const numFloatBytes = arrays.reduce((sum, { byteLength }) => sum + byteLength, 0)
  const bytes = new Uint8Array(4 + json.length + numFloatBytes)
  new DataView(bytes.buffer).setUint32(0, json.length, true)
  bytes.set(json, 4)
  let at = 4 + json.length
  for (const array of arrays) {
    bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at)
    at += array.byteLength
  }
  return bytes
}

/** Reads the output of `encodeRoundState`. */
export function decodeRoundState(bytes: Uint8Array): Result<RoundState, RoundStateError> {
  if (bytes.length < 4) return fail({ reason: 'length' })
  const headLen = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
  if (bytes.length < 4 + headLen) return fail({ reason: 'length' })
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headLen))) as Head
  if (head.version !== STATE_VERSION) return fail({ reason: 'version' })
  const numFloats = head.lengths.reduce((sum, length) => sum + length, 0)
  if (bytes.length !== 4 + headLen + 4 * numFloats) return fail({ reason: 'length' })
  let at = 4 + headLen
  const arrays = head.lengths.map((length) => {
    // Copied, because an array need not lie at a multiple of its element size.
    const array = new Float32Array(bytes.slice(at, at + 4 * length).buffer)
    at += 4 * length
    return array
  })
  const [values, mean, square, best, foldBest, reference, logProbs] = arrays
  const isWhole = head.lengths.length === (head.fit === null ? 5 : 7)
  if (!isWhole || !values || !mean || !square || !best || !foldBest) {
    return fail({ reason: 'length' })
  }
  return ok({
    history: head.history,
    fit: head.fit === null ? null : { ...head.fit, reference: reference!, logProbs: logProbs! },
    adam: { values, mean, square },
    best,
    bestRound: head.bestRound,
    foldBest,
    foldBestRounds: head.foldBestRounds,
  })
}
