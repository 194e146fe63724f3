import { createHash } from 'node:crypto'
import { IDENTITY_SLOT } from '../adapters/slot-table.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { AdapterTerm, Applied, Arm } from '../../src/protocol/runner.ts'
import type { AdmissionContext } from './context.ts'

/**
 * Leases an arm's adapters and the slot of their composed rotation.
 * @param leases takes what ends each lease, at once, so that a later failure can end it
 * @throws {RunnerFault} adapters or slots that cannot be leased; a position that the scope excludes
 */
export function leaseSlot(
  { adapters, slots }: AdmissionContext,
  arm: Arm,
  leases: (() => void)[],
): number {
  if (arm.adapters.length === 0) return IDENTITY_SLOT
  if (arm.scope === 'all' && (arm.rotate_from ?? 0) !== 0) {
    throw new RunnerFault('invalid_request', 'scope all can only rotate from 0', {
      param: 'rotate_from',
    })
  }
  leases.push(adapters.lease(arm.adapters, arm.scope))
  const slot = slots.acquire(slotKey(arm.adapters), () => adapters.compose(arm.adapters))
  leases.push(() => {
    slots.release(slot)
  })
  return slot
}

/** Says what an arm applies, read back from its slot and not from the request. */
export function describeApplied(
  { slots, modelDigest, buildDigest }: AdmissionContext,
  slot: number,
  arm: Arm,
): Applied {
  return {
    adapters: termsOf(slots.keyOf(slot)),
    scope: arm.scope,
    rotate_from: arm.rotate_from ?? null,
    layers: [...slots.layers(slot)],
    model_digest: modelDigest,
    build_digest: buildDigest,
    bias_digest: arm.bias ? digestOfBias(arm.bias) : null,
  }
}

/** A slot's key: equal keys are equal rotations. */
const slotKey = (terms: readonly AdapterTerm[]): string =>
  JSON.stringify(terms.map(({ digest, weight }) => [digest, weight]))

/** The terms that {@link slotKey} wrote; none for the identity. */
function termsOf(key: string): AdapterTerm[] {
  const terms = key === '' ? [] : (JSON.parse(key) as [string, number][])
  return terms.map(([digest, weight]) => ({ digest, weight }))
}

/** SHA-256 of the values as little-endian float64. */
function digestOfBias(bias: readonly number[]): string {
  const bytes = new DataView(new ArrayBuffer(8 * bias.length))
  for (const [i, value] of bias.entries()) bytes.setFloat64(8 * i, value, true)
  return createHash('sha256').update(new Uint8Array(bytes.buffer)).digest('hex')
}
