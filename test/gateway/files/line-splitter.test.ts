import fc from 'fast-check'
import { describe, it } from 'vitest'
import { LineSplitter, MAX_LINE_BYTES } from '../../../src/files/line-splitter.ts'

function split(bytes: Uint8Array, step: number): [number, string][] {
  const lines: [number, string][] = []
  const splitter = new LineSplitter((number, line) => {
    lines.push([number, line === 'too_long' ? line : new TextDecoder().decode(line)])
  })
  // One buffer used again, as network readers may.
  const scratch = new Uint8Array(step)
  for (let at = 0; at < bytes.length; at += step) {
    const part = bytes.subarray(at, at + step)
    scratch.set(part)
    splitter.push(scratch.subarray(0, part.length))
  }
  splitter.end()
  return lines
}

describe('lines', () => {
  it('are the same whatever chunks they come in', ({ expect }) => {
    const text = fc
      .array(fc.stringMatching(/^[a-zäöü€ ]{0,9}$/), { maxLength: 9 })
      .map((lines) => lines.join('\n'))
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 40 }), (given, step) => {
        const expected = given.split('\n').map((line, i) => [i + 1, line])
        // A last line that is empty is none.
        if (expected.at(-1)?.[1] === '') expected.pop()
        expect(split(new TextEncoder().encode(given), step)).toEqual(expected)
      }),
    )
  })

  it('that are too long are named, not kept, and the next one is read', ({ expect }) => {
    const bytes = new TextEncoder().encode(`a\n${'x'.repeat(MAX_LINE_BYTES + 1)}\nb`)
    for (const step of [1000, bytes.length]) {
      expect(split(bytes, step)).toEqual([
        [1, 'a'],
        [2, 'too_long'],
        [3, 'b'],
      ])
    }
    expect(split(new TextEncoder().encode('y'.repeat(MAX_LINE_BYTES)), 4096)).toHaveLength(1)
  })
})
