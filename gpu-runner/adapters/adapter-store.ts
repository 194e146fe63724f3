import { createHash } from 'node:crypto'
import { decodeAdapter, MAX_ADAPTER_BYTES } from '../../adapters/format/adapter-file.ts'
import {
  composeRotations,
  touchedLayers,
  type Geometry,
  type Rotation,
} from '../../adapters/rotation/rotation.ts'
import type { AdapterTerm, Scope } from '../../src/protocol/runner.ts'
import { RunnerFault } from '../runner-fault.ts'

export type ResidentAdapter = {
  readonly digest: string
  readonly scope: Scope
  readonly rotation: Rotation
}

type Entry = ResidentAdapter & { numLeases: number; retired: boolean; lastUsed: number }

/**
 * The adapters a runner holds in memory, by digest. Requests lease the adapters they use. A leased
 * adapter that is deleted is retired: no request can lease it any more, and it goes when its last
 * lease ends.
 */
export class AdapterStore {
  readonly maxResident: number
  readonly #geometry: Geometry
  readonly #modelDigest: string
  readonly #entries = new Map<string, Entry>()
  #clock = 0

  constructor(geometry: Geometry, modelDigest: string, maxResident: number) {
    this.#geometry = geometry
    this.#modelDigest = modelDigest
    this.maxResident = maxResident
  }

  /**
   * Checks an adapter's bytes and keeps the adapter. A digest that is already here changes nothing.
   * @throws {RunnerFault} adapter_invalid, adapter_wrong_model, over_capacity
   */
  put(digest: string, bytes: Uint8Array): ResidentAdapter {
    const known = this.#entries.get(digest)
    if (known && !known.retired) return known
    if (bytes.length > MAX_ADAPTER_BYTES) {
      throw new RunnerFault('adapter_invalid', `the adapter is over ${MAX_ADAPTER_BYTES} bytes`)
    }
    const actual = createHash('sha256').update(bytes).digest('hex')
    if (actual !== digest) {
      throw new RunnerFault(
        'adapter_invalid',
        `the digest of these bytes is ${actual}, not ${digest}`,
      )
    }
    const decoded = decodeAdapter(bytes, this.#geometry)
    if (!decoded.ok) throw new RunnerFault('adapter_invalid', decoded.error.message)
    const { modelDigest, scope, rotation } = decoded.value
    if (modelDigest !== this.#modelDigest) {
      throw new RunnerFault(
        'adapter_wrong_model',
        `adapter ${digest} was learnt on base model ${modelDigest}`,
      )
    }
    if (known) {
      known.retired = false
      return known
    }
    this.#makeRoom()
    const entry = { digest, scope, rotation, numLeases: 0, retired: false, lastUsed: ++this.#clock }
    this.#entries.set(digest, entry)
    return entry
  }

  /** Removes an adapter, as soon as no request uses it. @returns whether it was resident */
  delete(digest: string): boolean {
    const entry = this.#entries.get(digest)
    if (!entry || entry.retired) return false
    entry.retired = true
    if (entry.numLeases === 0) this.#entries.delete(digest)
    return true
  }

  /** @throws {RunnerFault} adapter_not_resident with every missing digest */
  requireResident(terms: readonly AdapterTerm[]): void {
    const missing = terms
      .map(({ digest }) => digest)
      .filter((digest) => this.#entries.get(digest)?.retired ?? true)
    if (missing.length === 0) return
    throw new RunnerFault('adapter_not_resident', 'push the missing adapters first', {
      missing: [...new Set(missing)],
    })
  }

  /**
   * Leases every adapter of a selection, or none.
   * @returns a function that ends the leases
   * @throws {RunnerFault} adapter_not_resident with the missing digests; invalid_request for scope
   */
  lease(terms: readonly AdapterTerm[], scope: Scope): () => void {
    this.requireResident(terms)
    const entries = terms.map(({ digest }) => this.#entries.get(digest)!)
    const odd = entries.find((entry) => entry.scope !== scope)
    if (odd) {
      throw new RunnerFault(
        'invalid_request',
        `adapter ${odd.digest} has scope ${odd.scope}; the arm asks for ${scope}`,
        { param: 'arms' },
      )
    }
    for (const entry of entries) {
      entry.numLeases += 1
      entry.lastUsed = ++this.#clock
    }
    return () => {
      for (const entry of entries) {
        entry.numLeases -= 1
        if (entry.retired && entry.numLeases === 0) this.#entries.delete(entry.digest)
      }
    }
  }

  /** The weighted sum of leased adapters. */
  compose(terms: readonly AdapterTerm[]): Rotation {
    return composeRotations(
      this.#geometry,
      terms.map(({ digest, weight }) => ({
        rotation: this.#entries.get(digest)!.rotation,
        weight,
      })),
    )
  }

  describe({ digest, scope, rotation }: ResidentAdapter) {
    return { digest, scope, layers: touchedLayers(rotation) }
  }

  get digests(): string[] {
    return [...this.#entries.values()].filter((entry) => !entry.retired).map(({ digest }) => digest)
  }

  /** @returns digests of at most `limit` adapters, the last used first */
  recentlyUsed(limit: number): string[] {
    return [...this.#entries.values()]
      .filter(({ retired }) => !retired)
      .sort((a, b) => b.lastUsed - a.lastUsed)
      .slice(0, limit)
      .map(({ digest }) => digest)
  }

  /** Makes room in a full store: the adapter that was not used for longest goes. */
  #makeRoom(): void {
    if (this.#entries.size < this.maxResident) return
    let oldest: Entry | null = null
    for (const entry of this.#entries.values()) {
      if (entry.numLeases === 0 && (!oldest || entry.lastUsed < oldest.lastUsed)) oldest = entry
    }
    if (!oldest) throw new RunnerFault('over_capacity', 'every resident adapter is in use')
    this.#entries.delete(oldest.digest)
  }
}
