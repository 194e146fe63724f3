import { joinChunks } from '../bytes/join-chunks.ts'

/** Most events of a runner have a few hundred bytes; a list of labels has some tens of thousands. */
const MAX_LINE_BYTES = 4 * 1024 * 1024
/** Sixteen echoed prompts with twenty alternatives a token have some 40 MiB. */
const MAX_TOTAL_BYTES = 128 * 1024 * 1024
const NEWLINE = 10
/** Whole lines only, so one decoder serves all streams. */
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/**
 * Reads the lines of a text, however it is cut into chunks; empty ones are left out.
 * @throws {RangeError} a line, or all of them together, is longer than any answer
 * @throws {SyntaxError} a line is not UTF-8
 * @throws {Error} the stream broke off, or its last line has no end
 */
export async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = stream.getReader()
  let pending: Uint8Array[] = []
  let numPending = 0
  let numBytes = 0
  let isDone = false
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      numBytes += value.length
      const end = value.lastIndexOf(NEWLINE) + 1
      if (end === 0) {
        pending.push(value)
        numPending += value.length
      } else {
        const lines = decode(joinChunks([...pending, value.subarray(0, end)]))
        pending = [value.subarray(end)]
        numPending = value.length - end
        for (const line of lines.split('\n')) if (line.trim() !== '') yield line
      }
      if (numPending > MAX_LINE_BYTES) throw new RangeError('a line is too long')
      if (numBytes > MAX_TOTAL_BYTES) throw new RangeError('the stream is too long')
    }
    isDone = true
    if (numPending > 0) throw new Error('the last line has no end')
  } finally {
    // If the consumer stops early, the runner must stop generating.
    if (!isDone) await reader.cancel().catch(() => undefined)
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes)
  } catch (error) {
    throw new SyntaxError('the stream is not UTF-8', { cause: error })
  }
}
