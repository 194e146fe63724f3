/** Most events of a runner have a few hundred bytes; a list of labels has some tens of thousands. */
const MAX_LINE_CHARS = 4 * 1024 * 1024

/** Sixteen echoed prompts with twenty alternatives a token have some 40 MiB. */
const MAX_TOTAL_BYTES = 128 * 1024 * 1024

/**
 * Reads the lines of a text, however it is cut into chunks; empty ones are left out.
 * @throws {RangeError} a line, or all of them together, is longer than any answer
 * @throws {SyntaxError} a line is not UTF-8
 * @throws {Error} the stream broke off, or its last line has no end
 */
export async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })
  const reader = stream.getReader()
  let pending = ''
  let numBytes = 0
  try {
    for (;;) {
      const { done, value } = await reader.read()
      numBytes += value?.length ?? 0
      if (numBytes > MAX_TOTAL_BYTES) throw new RangeError('the stream is too long')
      pending += decode(decoder, value)
      const lines = pending.split('\n')
      pending = lines.pop() ?? ''
      if ([pending, ...lines].some(({ length }) => length > MAX_LINE_CHARS)) {
        throw new RangeError('a line is too long')
      }
      for (const line of lines) if (line.trim() !== '') yield line
      if (done) break
    }
    if (pending.trim() !== '') throw new Error('the last line has no end')
  } finally {
    // If the consumer stops early, the runner must stop generating.
    await reader.cancel().catch(() => undefined)
  }
}

/** @param chunk undefined at the end of the stream */
function decode(decoder: TextDecoder, chunk: Uint8Array | undefined): string {
  try {
    return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true })
  } catch (error) {
    throw new SyntaxError('the stream is not UTF-8', { cause: error })
  }
}
