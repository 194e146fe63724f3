import type { ModelConfig } from '../model/gguf/index.ts'
import { IDENTITY_SLOT, type SlotTable } from '../adapters/slot-table.ts'
import type { KvTensors } from '../kv-cache/kv-tensors.ts'
import {
  INPUT_IDS,
  LOGIT_ROWS,
  LOGITS,
  pastKey,
  pastValue,
  presentKey,
  presentValue,
  SEQLENS_K,
  TOTAL_SEQUENCE_LENGTH,
} from '../onnx/serving/decoder.ts'
import { ROTATION_POSITIONS, rotationCos, rotationSin } from '../onnx/serving/rotation.ts'
import type { Binding, Session } from '../ort/index.ts'
import { PREFILL_CHUNK_LEN } from '../scheduler/chunks.ts'
import { Profile } from './profile.ts'
import { Turns, type Lane } from './turns.ts'

/** Buffers for runs of one (rows, sequence length) shape over one set of KV rows. */
type Shape = {
  readonly binding: Binding
  readonly inputIds: BigInt64Array
  readonly seqlensK: Int32Array
  readonly totalSequenceLength: Int32Array
  readonly rotationPositions: BigInt64Array
  readonly logits: Float32Array
}

/**
 * The graphs for prompts and for decode steps, which may be the same one. A prompt's chunk is limited by
 * arithmetic and a decode step of few rows by memory, so each has weights in the form that suits it.
 */
export type ExecutorSessions = { readonly prefill: Session; readonly decode: Session }

export type ExecutorOptions = {
  /** False for a graph built without rotation nodes. */
  readonly hasRotation?: boolean
  /** Shared by all executors that run on the same cores. */
  readonly turns?: Turns
  readonly profile?: Profile
  /** Whose calls these are. */
  readonly lane?: Lane
}

/**
 * Runs the decoder over KV rows, one call at a time with all others on the same cores. Buffers of decode
 * steps are kept, so a decode step allocates nothing.
 */
export class Executor {
  readonly config: ModelConfig
  readonly slots: SlotTable
  readonly turns: Turns
  readonly profile: Profile
  readonly #sessions: ExecutorSessions
  readonly #lane: Lane
  readonly #hasRotation: boolean
  #promptLogits = new Float32Array(0)
  readonly #decodeShapes = new WeakMap<KvTensors, Map<string, Shape>>()

  constructor(
    sessions: ExecutorSessions,
    config: ModelConfig,
    slots: SlotTable,
    options: ExecutorOptions = {},
  ) {
    this.#sessions = sessions
    this.config = config
    this.slots = slots
    this.turns = options.turns ?? new Turns()
    this.profile = options.profile ?? new Profile()
    this.#lane = options.lane ?? 'live'
    this.#hasRotation = options.hasRotation ?? true
  }

  /**
   * An executor of the same graphs whose calls are scheduled as a job's. Each KV tensor may be used with
   * one of the two executors only.
   */
  forJobs(): Executor {
    const { turns, profile } = this
    const options = { hasRotation: this.#hasRotation, turns, profile, lane: 'job' } as const
    return new Executor(this.#sessions, this.config, this.slots, options)
  }

  /**
   * Computes a chunk of one row's prompt.
   * @param position tokens already in the row
   * @param slot rotation slot for tokens from position `rotateFrom` on; earlier ones are not rotated
   * @param read takes the logits [ids.length, vocab], which the next chunk overwrites; without it no
   *   logits are computed
   */
  async prefill(
    kv: KvTensors,
    row: number,
    ids: readonly number[],
    position: number,
    slot: number,
    rotateFrom = 0,
    read?: (logits: Float32Array) => void,
  ): Promise<void> {
    await this.#inTurn(async () => {
      const { prefill } = this.#sessions
      const logits = read ? this.#promptLogitsOf(ids.length) : new Float32Array(0)
      const shape = this.#createShape(prefill, kv, row, 1, ids.length, logits)
      try {
        fillIds(shape, ids)
        shape.seqlensK[0] = position + ids.length - 1
        shape.totalSequenceLength[0] = position + ids.length
        for (let i = 0; i < ids.length; i++) {
          this.#fillSlot(shape, i, position + i < rotateFrom ? IDENTITY_SLOT : slot)
        }
        await this.#timed('prefill', () => shape.binding.run())
        read?.(logits)
      } finally {
        shape.binding.release()
      }
    })
  }

  /** A buffer for a chunk's logits, used again by the next chunk: 25 MB for SmolLM2-135M. */
  #promptLogitsOf(numTokens: number): Float32Array {
    const { vocab } = this.config
    const length = numTokens * vocab
    if (this.#promptLogits.length < length) {
      this.#promptLogits = new Float32Array(Math.max(numTokens, PREFILL_CHUNK_LEN) * vocab)
    }
    return this.#promptLogits.subarray(0, length)
  }

  /**
   * Decodes one token for each of the rows [firstRow, firstRow + ids.length).
   * @param ids next token of each row
   * @param positions tokens already in each row
   * @param slots rotation slot of each row
   * @param use reads the logits [rows, vocab], which the next step overwrites
   */
  decode<T>(
    kv: KvTensors,
    firstRow: number,
    ids: readonly number[],
    positions: readonly number[],
    slots: readonly number[],
    use: (logits: Float32Array) => T,
  ): Promise<T> {
    return this.#inTurn(async () => {
      const shape = this.#decodeShape(kv, firstRow, ids.length)
      fillIds(shape, ids)
      let longest = 0
      for (let row = 0; row < ids.length; row++) {
        shape.seqlensK[row] = positions[row]!
        longest = Math.max(longest, positions[row]! + 1)
        this.#fillSlot(shape, row, slots[row]!)
      }
      shape.totalSequenceLength[0] = longest
      await this.#timed('decode', () => shape.binding.run())
      return this.#timed('sampling', () => use(shape.logits))
    })
  }

  /** Runs work of another graph, in turn with the decoder's steps since they share the cores. */
  takeTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#inTurn(work)
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#lane === 'live') return this.turns.run('live', work)
    return this.turns.run('job', () => this.#timed('jobs', work, true))
  }

  /**
   * Books a live call's time under its phase. A job's whole turn is booked under `jobs`, not its
   * parts.
   */
  #timed<T>(phase: 'prefill' | 'decode' | 'sampling' | 'jobs', work: () => T, isJob = false): T {
    return (this.#lane === 'job') === isJob ? this.profile.timed(phase, work) : work()
  }

  /** Frees the buffers of KV rows that are no longer used. */
  async forget(kv: KvTensors): Promise<void> {
    await this.#inTurn(() => {
      for (const shape of this.#decodeShapes.get(kv)?.values() ?? []) shape.binding.release()
      this.#decodeShapes.delete(kv)
      return Promise.resolve()
    })
  }

  async release(): Promise<void> {
    await this.#inTurn(() => {
      for (const session of new Set(Object.values(this.#sessions))) session.release()
      return Promise.resolve()
    })
  }

  #decodeShape(kv: KvTensors, firstRow: number, numRows: number): Shape {
    let shapes = this.#decodeShapes.get(kv)
    if (!shapes) {
      shapes = new Map()
      this.#decodeShapes.set(kv, shapes)
    }
    const key = `${firstRow}+${numRows}`
    let shape = shapes.get(key)
    if (!shape) {
      const logits = new Float32Array(numRows * this.config.vocab)
      shape = this.#createShape(this.#sessions.decode, kv, firstRow, numRows, 1, logits)
      shapes.set(key, shape)
    }
    return shape
  }

  #createShape(
    session: Session,
    kv: KvTensors,
    firstRow: number,
    numRows: number,
    sequenceLen: number,
    logits: Float32Array,
  ): Shape {
    const { numHeads, headDim, numKvHeads, numLayers, vocab } = this.config
    const numTokens = numRows * sequenceLen
    const numLogitRows = logits.length / vocab
    const binding = session.createBinding()
    const shape: Shape = {
      binding,
      inputIds: new BigInt64Array(numTokens),
      seqlensK: new Int32Array(numRows),
      totalSequenceLength: new Int32Array(1),
      rotationPositions: new BigInt64Array(numTokens * numHeads),
      logits,
    }
    binding.bindInput(INPUT_IDS, { data: shape.inputIds, dims: [numRows, sequenceLen] })
    binding.bindInput(SEQLENS_K, { data: shape.seqlensK, dims: [numRows] })
    binding.bindInput(TOTAL_SEQUENCE_LENGTH, { data: shape.totalSequenceLength, dims: [1] })
    binding.bindInput(LOGIT_ROWS, {
      data: BigInt64Array.from({ length: numLogitRows }, (_, row) => BigInt(row)),
      dims: [numLogitRows],
    })
    binding.bindOutput(LOGITS, { data: shape.logits, dims: [numLogitRows, vocab] })
    const views = kv.views(firstRow, numRows)
    for (let layer = 0; layer < numLayers; layer++) {
      const dims = [numRows, numKvHeads, kv.capacity, headDim]
      const keys = { data: views[2 * layer]!, dims }
      const values = { data: views[2 * layer + 1]!, dims }
      binding.bindInput(pastKey(layer), keys)
      binding.bindInput(pastValue(layer), values)
      binding.bindOutput(presentKey(layer), keys)
      binding.bindOutput(presentValue(layer), values)
    }
    if (this.#hasRotation) {
      const positions = { data: shape.rotationPositions, dims: [numTokens, numHeads] }
      binding.bindInput(ROTATION_POSITIONS, positions)
      const dims = [this.slots.numSlots * numHeads, headDim / 2]
      for (let layer = 0; layer < numLayers; layer++) {
        binding.bindInput(rotationCos(layer), { data: this.slots.cos[layer]!, dims })
        binding.bindInput(rotationSin(layer), { data: this.slots.sin[layer]!, dims })
      }
    }
    return shape
  }

  /** Points a token's heads at the rows of a slot in the rotation tables. */
  #fillSlot(shape: Shape, token: number, slot: number): void {
    const { numHeads } = this.config
    for (let head = 0; head < numHeads; head++) {
      shape.rotationPositions[token * numHeads + head] = BigInt(slot * numHeads + head)
    }
  }
}

function fillIds(shape: Shape, ids: readonly number[]): void {
  for (const [i, id] of ids.entries()) shape.inputIds[i] = BigInt(id)
}
