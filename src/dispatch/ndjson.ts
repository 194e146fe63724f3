/** Most events of a runner have a few hundred bytes; a list of labels has some tens of thousands. */
const MAX_LINE_CHARS = 4 * 1024 * 1024

/**
 * Reads JSON values from text with one value a line, however it is cut into chunks.
 * @throws {SyntaxError} a line is not JSON
 * @throws {RangeError} a line is longer than any event
 */
export async function* readNdjson(stream: ReadableStream<Uint8Array>): AsyncGenerator {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })
  const reader = stream.getReader()
  let pending = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      pending += done ? decoder.decode() : decoder.decode(value, { stream: true })
      const lines = pending.split('\n')
      pending = lines.pop() ?? ''
      for (const line of lines) if (line.trim() !== '') yield JSON.parse(line) as unknown
      if (pending.length > MAX_LINE_CHARS) throw new RangeError('a line is too long')
      if (done) break
    }
    if (pending.trim() !== '') yield JSON.parse(pending) as unknown
  } finally {
    // If the consumer stops early, the runner must stop generating.
    await reader.cancel().catch(() => undefined)
  }
}
