import {
  pairsPerLayer,
  touchedLayers,
  writeRotationTable,
  type Geometry,
  type Rotation,
} from '../../adapters/rotation/rotation.ts'
import { RunnerFault } from '../runner-fault.ts'

/**
 * Slot 0, the identity, is never written. Rows without an adapter and prompts under scope `generated`
 * use it.
 */
export const IDENTITY_SLOT = 0

type Slot = { key: string; numLeases: number; lastUsed: number; layers: readonly number[] }

/**
 * The rotation tables that the graph reads. Each slot holds one distinct rotation. A slot that nobody
 * leases keeps its rotation until the slot is needed, so a repeated selection writes nothing.
 */
export class SlotTable {
  /** r·cos and r·sin of every slot, for each layer: [slots·heads, headDim/2]. */
  readonly cos: readonly Float32Array[]
  readonly sin: readonly Float32Array[]
  readonly numSlots: number
  readonly #geometry: Geometry
  readonly #slots: (Slot | null)[]
  readonly #slotOfKey = new Map<string, number>()
  #clock = 0

  constructor(geometry: Geometry, numSlots: number) {
    this.#geometry = geometry
    this.numSlots = numSlots
    const size = numSlots * pairsPerLayer(geometry)
    this.cos = Array.from({ length: geometry.numLayers }, () => new Float32Array(size).fill(1))
    this.sin = Array.from({ length: geometry.numLayers }, () => new Float32Array(size))
    this.#slots = new Array<Slot | null>(numSlots).fill(null)
    this.#slots[IDENTITY_SLOT] = { key: '', numLeases: 1, lastUsed: 0, layers: [] }
  }

  /**
   * Leases the slot of a rotation, and writes the rotation if no slot holds it.
   * @param key names the rotation: equal keys must mean equal rotations
   * @param make makes the rotation; only called if it has to be written
   * @throws {RunnerFault} over_capacity where every slot is leased
   */
  acquire(key: string, make: () => Rotation): number {
    const known = this.#slotOfKey.get(key)
    const slot = known ?? this.#reclaim()
    if (known === undefined) this.#write(slot, key, make())
    const record = this.#slots[slot]!
    record.numLeases += 1
    record.lastUsed = ++this.#clock
    return slot
  }

  release(slot: number): void {
    if (slot === IDENTITY_SLOT) return
    const record = this.#slots[slot]
    if (!record || record.numLeases === 0) throw new Error(`slot ${slot} is not leased`)
    record.numLeases -= 1
  }

  /** Ends a lease on a slot whose rotation will not be used again; the last lease's end empties it. */
  discard(slot: number): void {
    this.release(slot)
    const record = this.#slots[slot]
    if (!record || record.numLeases > 0) return
    this.#slotOfKey.delete(record.key)
    this.#slots[slot] = null
  }

  /** Layers that a slot's rotation changes, ascending. */
  layers(slot: number): readonly number[] {
    return this.#slots[slot]?.layers ?? []
  }

  /** The key under which a slot's rotation was written; '' for the identity. */
  keyOf(slot: number): string {
    const record = this.#slots[slot]
    if (!record) throw new Error(`slot ${slot} is empty`)
    return record.key
  }

  get numLeased(): number {
    return this.#slots.filter((slot, i) => i !== IDENTITY_SLOT && (slot?.numLeases ?? 0) > 0).length
  }

  #write(slot: number, key: string, rotation: Rotation): void {
    const pairs = pairsPerLayer(this.#geometry)
    for (let layer = 0; layer < this.#geometry.numLayers; layer++) {
      writeRotationTable(
        rotation.layers.get(layer),
        this.cos[layer]!,
        this.sin[layer]!,
        slot * pairs,
        pairs,
      )
    }
    this.#slots[slot] = { key, numLeases: 0, lastUsed: 0, layers: touchedLayers(rotation) }
    this.#slotOfKey.set(key, slot)
  }

  /** Finds an empty slot, or empties the unleased one that was not used for longest. */
  #reclaim(): number {
    const empty = this.#slots.indexOf(null)
    if (empty >= 0) return empty
    let oldest = -1
    for (const [slot, record] of this.#slots.entries()) {
      if (slot === IDENTITY_SLOT || record!.numLeases > 0) continue
      if (oldest < 0 || record!.lastUsed < this.#slots[oldest]!.lastUsed) oldest = slot
    }
    if (oldest < 0) throw new RunnerFault('over_capacity', 'every rotation slot is in use')
    this.#slotOfKey.delete(this.#slots[oldest]!.key)
    this.#slots[oldest] = null
    return oldest
  }
}
