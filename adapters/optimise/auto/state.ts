import { fail, ok, type Result } from '../../result.ts'
import { decodeGradientState, encodeGradientState } from '../gradient/state.ts'
import type { AutoFit, AutoState } from './auto.ts'

/** Raised when the meaning of the bytes changes. */
const STATE_VERSION = 3
/** Version, length of the JSON, length of the gradient state's bytes. */
const HEADER_WORDS = 3

export type AutoStateError = { readonly reason: 'version' | 'length' | 'gradient' }

type Described = Omit<AutoState, 'fits' | 'current'> & {
  readonly fits: readonly { readonly trial: number; readonly length: number }[]
  readonly current: Omit<AutoState['current'] & {}, 'gradient'> | null
}

/**
 * Encodes a search's state, little-endian and exact:
 *
 * - three uint32s (`HEADER_WORDS`)
 * - JSON of everything except the fits' values and the gradient state (JSON keeps float64 exactly)
 * - the gradient state of the current configuration, by `encodeGradientState`
 * - float32 values of each fit
 */
export function encodeAutoState(state: AutoState): Uint8Array<ArrayBuffer> {
  const { fits, current, ...rest } = state
  const described: Described = {
    ...rest,
    fits: fits.map(({ trial, candidates }) => ({ trial, length: candidates.length })),
    current: current === null ? null : omitGradient(current),
  }
  const json = new TextEncoder().encode(JSON.stringify(described))
  const gradient = current === null ? new Uint8Array() : encodeGradientState(current.gradient)
  const parts: readonly ArrayBufferView[] = [
    Uint32Array.of(STATE_VERSION, json.length, gradient.length),
    json,
    gradient,
    ...fits.map(({ candidates }) => candidates),
  ]
  const bytes = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0))
  let at = 0
  for (const { buffer, byteOffset, byteLength } of parts) {
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at)
    at += byteLength
  }
  return bytes
}

const omitGradient = ({ z, end, spentMs }: AutoState['current'] & {}): Described['current'] => ({
  z,
  end,
  spentMs,
})

/** Reads the output of `encodeAutoState`. */
export function decodeAutoState(bytes: Uint8Array): Result<AutoState, AutoStateError> {
  const headLen = HEADER_WORDS * 4
  if (bytes.length < headLen) return fail({ reason: 'length' })
  const [version, jsonLen, gradientLen] = new Uint32Array(
    bytes.slice(0, headLen).buffer,
  ) as unknown as [number, number, number]
  if (version !== STATE_VERSION) return fail({ reason: 'version' })
  const gradientAt = headLen + jsonLen
  let at = gradientAt + gradientLen
  if (bytes.length < at) return fail({ reason: 'length' })
  const text = new TextDecoder().decode(bytes.subarray(headLen, gradientAt))
  const { fits: described, current, ...rest } = JSON.parse(text) as Described
  const numFloats = described.reduce((sum, { length }) => sum + length, 0)
  if (bytes.length !== at + numFloats * 4) return fail({ reason: 'length' })
  // Copied, because a part need not lie at a multiple of its element size.
  const floats = (length: number): Float32Array => {
    const values = new Float32Array(bytes.slice(at, at + length * 4).buffer)
    at += length * 4
    return values
  }
  const fits = described.map(({ trial, length }): AutoFit => ({
    trial,
    candidates: floats(length),
  }))
  if (current === null) return ok({ ...rest, fits, current })
  const gradient = decodeGradientState(bytes.subarray(gradientAt, gradientAt + gradientLen))
  if (!gradient.ok) return fail({ reason: 'gradient' })
  return ok({ ...rest, fits, current: { ...current, gradient: gradient.value } })
}
