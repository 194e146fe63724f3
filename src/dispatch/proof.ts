import type { Applied, Arm } from '../protocol/runner.ts'
import { sha256Hex } from '../storage/digest.ts'

/** What a runner must say it applied to an arm. */
export type ExpectedProof = {
  readonly arm: Arm
  /** Null for the base model alone, whatever its digest. */
  readonly modelDigest: string | null
  readonly biasDigest: string | null
  readonly layers: readonly number[]
  /** False for a sum, whose terms may cancel on a layer: `layers` is then an upper bound. */
  readonly layersExact: boolean
}

/**
 * Compares what a runner says it applied with what it should apply.
 * @returns null if they agree, else the name of the first thing that differs
 */
export function findProofMismatch(expected: ExpectedProof, applied: Applied): string | null {
  const { arm } = expected
  const sameAdapters =
    applied.adapters.length === arm.adapters.length &&
    arm.adapters.every(
      ({ digest, weight }, i) =>
        applied.adapters[i]?.digest === digest && applied.adapters[i].weight === weight,
    )
  if (!sameAdapters) return 'adapters'
  if (applied.scope !== arm.scope) return 'scope'
  if (applied.rotate_from !== (arm.rotate_from ?? null)) return 'rotate_from'
  if (expected.modelDigest !== null && applied.model_digest !== expected.modelDigest) {
    return 'model_digest'
  }
  if (applied.bias_digest !== expected.biasDigest) return 'bias_digest'
  const allowed = new Set(expected.layers)
  const within = applied.layers.every((layer) => allowed.has(layer))
  const complete = !expected.layersExact || applied.layers.length === expected.layers.length
  return within && complete ? null : 'layers'
}

/** Whether an arm's end repeats the proof of its admission. */
export const isSameApplied = (a: Applied, b: Applied): boolean =>
  JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b))

const inOrder = (applied: Applied) => [
  applied.adapters.map(({ digest, weight }) => [digest, weight]),
  applied.scope,
  applied.rotate_from,
  applied.layers,
  applied.model_digest,
  applied.build_digest,
  applied.bias_digest,
]

/** A bias's digest as a runner computes it: the SHA-256 of little-endian float64s. */
export function digestOfBias(bias: readonly number[]): Promise<string> {
  const bytes = new Uint8Array(bias.length * 8)
  const view = new DataView(bytes.buffer)
  bias.forEach((value, i) => {
    view.setFloat64(i * 8, value, true)
  })
  return sha256Hex(bytes)
}
