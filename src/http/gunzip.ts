import { Gunzip } from 'fflate'
import { crc32 } from '../bytes/crc32.ts'
import { InflateSlices } from '../bytes/inflate-slices.ts'
import { invalidRequest, type ApiError } from '../protocol/openai/error.ts'
import { drain, readChunk } from './body-chunks.ts'

/** Valid gzip data gives output sooner: a stored block has at most 64 KiB, and headers are short. */
const MAX_SILENT_BYTES = 256 * 1024
const TRAILER_BYTES = 8

/**
 * Inflates a gzip body while it is read.
 * @param sent the body as the client sends it
 * @param maxBytes the most bytes of the body, before and after inflating
 * @param tooLarge makes the error for a larger body, whose rest is read but not inflated
 */
export function gunzip(
  sent: ReadableStreamDefaultReader<Uint8Array>,
  maxBytes: number,
  tooLarge: () => ApiError,
): ReadableStream<Uint8Array> {
  const member = new GzipMember()
  const slices = new InflateSlices()
  let chunk = new Uint8Array()
  let at = 0
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (;;) {
          if (at === chunk.length) {
            const { done, value } = await readChunk(sent)
            if (done) {
              member.end()
              controller.close()
              return
            }
            chunk = new Uint8Array(value)
            at = 0
          }
          const slice = chunk.subarray(at, at + slices.next())
          at += slice.length
          const inflated = member.push(slice)
          if (member.sizeBytes > maxBytes || member.packedBytes > maxBytes) {
            await drain(sent)
            throw tooLarge()
          }
          if (inflated.length === 0) continue
          for (const part of inflated) controller.enqueue(part)
          return
        }
      },
      cancel: (reason) => sent.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}

/** Inflates the only member of a gzip file and checks its checksum and its size. Source: RFC 1952 */
class GzipMember {
  readonly #gunzip = new Gunzip((part) => {
    if (part.length > 0) this.#inflated.push(part)
  })
  #inflated: Uint8Array[] = []
  #tail = new Uint8Array()
  #crc = 0
  #silentBytes = 0
  sizeBytes = 0
  packedBytes = 0

  constructor() {
    // The trailer has the size and the checksum of the last member only.
    this.#gunzip.onmember = () => {
      throw unsound('it holds several members')
    }
  }

  push(slice: Uint8Array): readonly Uint8Array[] {
    this.packedBytes += slice.length
    const known = new Uint8Array([...this.#tail, ...slice.subarray(-TRAILER_BYTES)])
    this.#tail = known.slice(-TRAILER_BYTES)
    this.#inflate(slice, false)
    const inflated = this.#inflated
    this.#inflated = []
    for (const part of inflated) {
      this.sizeBytes += part.length
      this.#crc = crc32(part, this.#crc)
    }
    this.#silentBytes = inflated.length > 0 ? 0 : this.#silentBytes + slice.length
    if (this.#silentBytes > MAX_SILENT_BYTES)
      throw unsound('it holds bytes that inflate to nothing')
    return inflated
  }

  end(): void {
    this.#inflate(new Uint8Array(), true)
    const trailer = new DataView(this.#tail.buffer)
    if (
      this.#tail.length < TRAILER_BYTES ||
      trailer.getUint32(0, true) !== this.#crc ||
      trailer.getUint32(4, true) !== this.sizeBytes
    ) {
      throw unsound('its checksum is wrong')
    }
  }

  #inflate(slice: Uint8Array, isLast: boolean): void {
    try {
      this.#gunzip.push(slice, isLast)
    } catch (error) {
      if (error instanceof Error && error.name === 'ApiError') throw error
      throw unsound(isLast ? 'it ends too early' : 'it is malformed')
    }
  }
}

const unsound = (why: string) =>
  invalidRequest(`The request body is not valid gzip: ${why}.`, null, 'invalid_gzip')
