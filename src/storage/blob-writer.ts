/** R2 wants parts of one size, of at least 5 MiB, but for the last. */
const PART_BYTES = 8 * 1024 * 1024

/**
 * Writes a blob of unknown length: small ones in one put, large ones in parts. Nothing is there
 * under the key before `finish`.
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

  /** Takes bytes without waiting; `flush` before taking many more. */
  push(chunk: Uint8Array): void {
    this.#pending.push(chunk.slice())
    this.#pendingBytes += chunk.length
    this.#sizeBytes += chunk.length
  }

  /** Uploads what makes whole parts. */
  async flush(): Promise<void> {
    while (this.#pendingBytes >= PART_BYTES) {
      this.#upload ??= await this.#bucket.createMultipartUpload(this.#key)
      await this.#uploadPart(this.#take(PART_BYTES))
    }
  }

  async finish(): Promise<void> {
    await this.flush()
    const rest = this.#take(this.#pendingBytes)
    if (this.#upload === null) {
      await this.#bucket.put(this.#key, rest)
      return
    }
    if (rest.length > 0) await this.#uploadPart(rest)
    await this.#upload.complete(this.#parts)
  }

  async abort(): Promise<void> {
    this.#pending = []
    this.#pendingBytes = 0
    await this.#upload?.abort()
  }

  async #uploadPart(bytes: Uint8Array): Promise<void> {
    this.#parts.push(await this.#upload!.uploadPart(this.#parts.length + 1, bytes))
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
