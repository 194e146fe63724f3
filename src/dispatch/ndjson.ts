import { joinChunks } from '../bytes/join-chunks.ts'

/** Most events of a runner have a few hundred bytes; a list of labels has some tens of thousands. */
const MAX_LINE_BYTES = 4 * 1024 * 1024
const NEWLINE = 10
/** Whole lines only, so one decoder serves all streams. */
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/**
 * Reads JSON values from text with one value a line, however it is cut into chunks.
 * @throws {SyntaxError} a line is not JSON
 * @throws {TypeError} a line is not UTF-8
 * @throws {RangeError} a line is longer than any event
 */
export async function* readNdjson(stream: ReadableStream<Uint8Array>): AsyncGenerator {
  const reader = stream.getReader()
  let pending: Uint8Array[] = []
  let numPending = 0
  let isDone = false
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      const end = value.lastIndexOf(NEWLINE) + 1
      if (end === 0) {
        pending.push(value)
        numPending += value.length
      } else {
        const lines = joinChunks([...pending, value.subarray(0, end)])
        pending = [value.subarray(end)]
        numPending = value.length - end
        for (const line of decoder.decode(lines).split('\n')) {
          if (line.trim() !== '') yield JSON.parse(line) as unknown
        }
      }
      if (numPending > MAX_LINE_BYTES) throw new RangeError('a line is too long')
    }
    isDone = true
    const rest = decoder.decode(joinChunks(pending))
    if (rest.trim() !== '') yield JSON.parse(rest) as unknown
  } finally {
    // If the consumer stops early, the runner must stop generating.
    if (!isDone) await reader.cancel().catch(() => undefined)
  }
}
