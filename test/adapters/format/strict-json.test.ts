import { it } from 'vitest'
import { parseStrictJson } from '../../../adapters/format/strict-json.ts'

it('the parser stops at the limit of a header with too many values', ({ expect }) => {
  for (const item of ['1', '""', '{}']) {
    const text = `{"a":[${Array.from({ length: 300_000 }, () => item).join()}]}`
    expect(parseStrictJson(text)).toMatchObject({
      fault: expect.stringMatching(/more than 32768 values/) as string,
    })
  }
  const shape = Array.from({ length: 30_000 }, () => ' 1\n').join()
  expect(parseStrictJson(`{ "a" :\t[${shape}]\r\n}`)).toHaveProperty('value')
})
