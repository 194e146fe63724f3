/** How many idle tenants are remembered before those with nothing to make up for are forgotten. */
const MAX_IDLE_TENANTS = 1024

/**
 * How much of the engine each tenant has had, in the cost of tokens served. Among requests of a tier the
 * tenant with the least goes first, so a tenant's thousand requests do not push back another's one.
 *
 * A tenant that comes back is raised to the least of the active ones: it saves nothing up while away.
 * Source: the virtual token counter of Sheng et al. 2024, arXiv:2401.00588.
 */
export class TenantTurns {
  readonly #served = new Map<string, number>()

  /** Tenants that are remembered. */
  get size(): number {
    return this.#served.size
  }

  get(tenant: string): number {
    return this.#served.get(tenant) ?? 0
  }

  charge(tenant: string, cost: number): void {
    this.#served.set(tenant, this.get(tenant) + cost)
  }

  /**
   * A tenant without requests has one now.
   * @param active tenants that have requests, without this one
   */
  enter(tenant: string, active: ReadonlySet<string>): void {
    if (active.size === 0) {
      // Nobody else waits, so nobody is owed anything.
      this.#served.clear()
      return
    }
    const least = Math.min(...[...active].map((other) => this.get(other)))
    this.#served.set(tenant, Math.max(this.get(tenant), least))
    if (this.#served.size <= active.size + MAX_IDLE_TENANTS) return
    for (const [other, served] of this.#served) {
      if (other !== tenant && !active.has(other) && served <= least) this.#served.delete(other)
    }
  }
}
