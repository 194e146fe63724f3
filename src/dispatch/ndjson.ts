/** A runner's event is a few hundred bytes, a label list at most some tens of thousands. */
const MAX_LINE_CHARS = 4 * 1024 * 1024

/**
 * The JSON values of newline-framed text, however it was cut into chunks.
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
      if (pending.length > MAX_LINE_CHARS) throw new RangeError('a line without end')
      if (done) break
    }
    if (pending.trim() !== '') yield JSON.parse(pending) as unknown
  } finally {
    // A consumer that stops early must not leave the runner generating.
    await reader.cancel().catch(() => undefined)
  }
}
