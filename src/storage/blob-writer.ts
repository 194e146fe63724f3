import { Breather } from '../bytes/breather.ts'

/** R2 wants all parts but the last to have the same size, at least 5 MiB. */
const PART_BYTES = 8 * 1024 * 1024
/** R2 gets this much at a time. Storing it takes a few milliseconds. */
const PIECE_BYTES = 256 * 1024

/**
 * Writes a blob of unknown length: a small one by one put, a large one in parts. The key has no blob
 * before `finish`.
 */
export class BlobWriter {
  readonly #bucket: R2Bucket
  readonly #key: string
  #pending: Uint8Array[] = []
  #pendingBytes = 0
  #sizeBytes = 0
  #upload: R2MultipartUpload | null = null
  readonly #parts: R2UploadedPart[] = []

  constructor(bucket: R2Bucket, key: string) {
    this.#bucket = bucket
    this.#key = key
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Takes bytes without waiting. Call `flush` before pushing many more. */
  push(chunk: Uint8Array): void {
    this.#pending.push(chunk.slice())
    this.#pendingBytes += chunk.length
    this.#sizeBytes += chunk.length
  }

  /** Uploads all parts that are full. */
  async flush(): Promise<void> {
    while (this.#pendingBytes >= PART_BYTES) await this.#uploadPart(PART_BYTES)
  }

  async finish(): Promise<void> {
    await this.flush()
    if (this.#upload === null) {
      await this.#pour(this.#pendingBytes, (bytes) => this.#bucket.put(this.#key, bytes))
      return
    }
    if (this.#pendingBytes > 0) await this.#uploadPart(this.#pendingBytes)
    await this.#upload.complete(this.#parts)
  }

  async abort(): Promise<void> {
    this.#pending = []
    this.#pendingBytes = 0
    await this.#upload?.abort()
  }

  async #uploadPart(numBytes: number): Promise<void> {
    const upload = (this.#upload ??= await this.#bucket.createMultipartUpload(this.#key))
    const number = this.#parts.length + 1
    this.#parts.push(await this.#pour(numBytes, (bytes) => upload.uploadPart(number, bytes)))
  }

  /**
   * Streams pending bytes to R2. A local R2 that takes a whole part at once delays other requests.
   */
  async #pour<T>(numBytes: number, put: (bytes: ReadableStream) => Promise<T>): Promise<T> {
    const { readable, writable } = new FixedLengthStream(numBytes)
    const [stored] = await Promise.all([put(readable), this.#write(numBytes, writable.getWriter())])
    return stored
  }

  async #write(numBytes: number, writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
    const breather = new Breather(PIECE_BYTES)
    for (let left = numBytes; left > 0; left -= PIECE_BYTES) {
      const piece = this.#take(Math.min(left, PIECE_BYTES))
      await writer.write(piece)
      await breather.worked(piece.length)
    }
    await writer.close()
  }

  #take(numBytes: number): Uint8Array {
    const taken = new Uint8Array(numBytes)
    let at = 0
    while (at < numBytes) {
      const head = this.#pending[0]!
      const part = head.subarray(0, numBytes - at)
      taken.set(part, at)
      at += part.length
      if (part.length === head.length) this.#pending.shift()
      else this.#pending[0] = head.subarray(part.length)
    }
    this.#pendingBytes -= numBytes
    return taken
  }
}
