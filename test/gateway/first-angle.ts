import { decodeAdapter } from '../../adapters/format/decode.ts'
import type { Arm } from '../../src/protocol/runner.ts'
import { runner } from './fresh-project.ts'
import { GEOMETRY } from './runner-double.ts'

/** The first angle of an arm's adapter; 0 for the base model, and for an adapter that turns nothing. */
export function firstAngle({ adapters }: Arm): number {
  const digest = adapters[0]?.digest
  if (digest === undefined) return 0
  const decoded = decodeAdapter(runner.adapters.get(digest)!, GEOMETRY)
  if (!decoded.ok) throw new Error(decoded.error.message)
  return [...decoded.value.rotation.layers.values()][0]?.angles[0] ?? 0
}
