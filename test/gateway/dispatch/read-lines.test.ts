import fc from 'fast-check'
import { describe, it } from 'vitest'
import { readLines } from '../../../src/dispatch/read-lines.ts'

function streamOf(bytes: Uint8Array, cuts: readonly number[]) {
  const edges = [0, ...[...cuts].sort((a, b) => a - b), bytes.length]
  return new ReadableStream<Uint8Array>({
    start(controller) {
      for (let i = 1; i < edges.length; i++) {
        const chunk = bytes.slice(edges[i - 1], edges[i])
        if (chunk.length > 0) controller.enqueue(chunk)
      }
      controller.close()
    },
  })
}

async function collect(stream: ReadableStream<Uint8Array>): Promise<unknown[]> {
  const values: unknown[] = []
  for await (const line of readLines(stream)) values.push(JSON.parse(line))
  return values
}

describe('lines of a runner', () => {
  it('reads the same however it is cut', async ({ expect }) => {
    const value = fc.record({ text: fc.string({ unit: 'binary' }), n: fc.integer() })
    await fc.assert(
      fc.asyncProperty(
        fc.array(value, { maxLength: 8 }),
        fc.array(fc.nat(400), { maxLength: 12 }),
        fc.constantFrom('\n', '\r\n', '\n\n'),
        async (values, cuts, eol) => {
          const lines = values.map((v) => JSON.stringify(v)).join(eol)
          const bytes = new TextEncoder().encode(lines + eol)
          const inside = cuts.filter((cut) => cut < bytes.length)
          expect(await collect(streamOf(bytes, inside))).toEqual(JSON.parse(JSON.stringify(values)))
        },
      ),
    )
  })

  it('says when a line is not UTF-8, breaks off or is too long', async ({ expect }) => {
    const encode = (text: string) => new TextEncoder().encode(text)
    await expect(collect(streamOf(encode('{"a":1}\n{"a"'), []))).rejects.toThrow('no end')
    const notText = Uint8Array.of(0x22, 0xff, 0x22, 0x0a)
    await expect(collect(streamOf(notText, []))).rejects.toThrow(SyntaxError)
    const endless = encode('x'.repeat(5 * 1024 * 1024))
    await expect(collect(streamOf(endless, []))).rejects.toThrow(RangeError)
  })

  it('cancels the stream when its reader stops early', async ({ expect }) => {
    let isCancelled = false
    const stream = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(new TextEncoder().encode('1\n'))
      },
      cancel() {
        isCancelled = true
      },
    })
    for await (const value of readLines(stream)) {
      expect(value).toBe('1')
      break
    }
    expect(isCancelled).toBe(true)
  })
})
