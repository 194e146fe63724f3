import type { Bindings } from '../env.ts'
import { Lease, type Exchange } from './lease.ts'
import type { CallerLimits } from '../protocol/limits.ts'

/** When this many are kept, those that nobody uses go. */
const MAX_IDLE_LEASES = 1024

/** The leases of one isolate. */
export class LeasePool {
  readonly #leases = new Map<string, Lease>()

  leaseOf(keyId: string, limits: CallerLimits): Lease {
    const known = this.#leases.get(keyId)
    if (known !== undefined) return known
    if (this.#leases.size >= MAX_IDLE_LEASES) {
      for (const [id, lease] of this.#leases) if (lease.isIdle) this.#leases.delete(id)
    }
    const lease = new Lease(keyId, limits)
    this.#leases.set(keyId, lease)
    return lease
  }
}

/** Asks the object of a project's limits. A new stub for each call, since one that failed stays broken. */
export const exchangeWith =
  ({ LIMITS }: Bindings, projectId: string): Exchange =>
  (call) =>
    LIMITS.get(LIMITS.idFromName(projectId)).exchange(call)
