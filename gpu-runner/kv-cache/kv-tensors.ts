export type KvShape = {
  readonly numLayers: number
  readonly numKvHeads: number
  readonly headDim: number
}

/** A copy of the KV of adjacent tokens of one sequence. */
export type KvBlock = {
  readonly numTokens: number
  readonly sizeBytes: number
  /** [2·numLayers, numKvHeads, numTokens, headDim], keys and values alternating by layer. */
  readonly data: Float32Array
}

export const kvBytesPerToken = ({ numLayers, numKvHeads, headDim }: KvShape): number =>
  2 * numLayers * numKvHeads * headDim * Float32Array.BYTES_PER_ELEMENT

/**
 * Keys and values of `numRows` sequences of up to `capacity` tokens, one buffer for each layer's keys
 * and one for its values, [numRows, numKvHeads, capacity, headDim]. The system gives memory only as
 * tokens are written.
 */
export class KvTensors {
  readonly shape: KvShape
  readonly numRows: number
  readonly capacity: number
  /** Keys of layer l at 2l, values at 2l + 1. */
  readonly #buffers: readonly Float32Array[]

  constructor(shape: KvShape, numRows: number, capacity: number) {
    this.shape = shape
    this.numRows = numRows
    this.capacity = capacity
    const size = numRows * shape.numKvHeads * capacity * shape.headDim
    this.#buffers = Array.from({ length: 2 * shape.numLayers }, () => new Float32Array(size))
  }

  get sizeBytes(): number {
    return this.#buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0)
  }

  /** The buffers of rows [firstRow, firstRow + numRows), keys and values alternating by layer. */
  views(firstRow: number, numRows: number): readonly Float32Array[] {
    const rowSize = this.shape.numKvHeads * this.capacity * this.shape.headDim
    return this.#buffers.map((buffer) =>
      buffer.subarray(firstRow * rowSize, (firstRow + numRows) * rowSize),
    )
  }

  /** Copies the first `numTokens` tokens of a row, which may belong to other tensors. */
  copyRow(toRow: number, from: KvTensors, fromRow: number, numTokens: number): void {
    const { numKvHeads, headDim } = this.shape
    const length = numTokens * headDim
    for (const [index, target] of this.#buffers.entries()) {
      const source = from.#buffers[index]!
      for (let head = 0; head < numKvHeads; head++) {
        const start = (fromRow * numKvHeads + head) * from.capacity * headDim
        target.set(
          source.subarray(start, start + length),
          (toRow * numKvHeads + head) * this.capacity * headDim,
        )
      }
    }
  }

  /** Copies tokens [start, start + numTokens) of a row into a new block. */
  readBlock(row: number, start: number, numTokens: number): KvBlock {
    const { numKvHeads, headDim } = this.shape
    const length = numTokens * headDim
    const data = new Float32Array(this.#buffers.length * numKvHeads * length)
    let at = 0
    for (const buffer of this.#buffers) {
      for (let head = 0; head < numKvHeads; head++) {
        const from = ((row * numKvHeads + head) * this.capacity + start) * headDim
        data.set(buffer.subarray(from, from + length), at)
        at += length
      }
    }
    return { numTokens, sizeBytes: data.byteLength, data }
  }

  /** Writes a block's tokens into a row from token `start` on. */
  writeBlock(row: number, start: number, { numTokens, data }: KvBlock): void {
    const { numKvHeads, headDim } = this.shape
    const length = numTokens * headDim
    let at = 0
    for (const buffer of this.#buffers) {
      for (let head = 0; head < numKvHeads; head++) {
        const to = ((row * numKvHeads + head) * this.capacity + start) * headDim
        buffer.set(data.subarray(at, at + length), to)
        at += length
      }
    }
  }
}
