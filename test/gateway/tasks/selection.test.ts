import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  formatSelection,
  parseSelection,
  type SelectionTerm,
} from '../../../src/tasks/selection.ts'

const term = (name: string, version: SelectionTerm['version'] = null, weight = 1) => ({
  name,
  version,
  weight,
})

describe('a selection', () => {
  it.for([
    ['a', [term('a')]],
    ['ag-news', [term('ag-news')]],
    ['a-b', [term('a-b')]],
    ['a - b', [term('a'), term('b', null, -1)]],
    ['a*1-b', [term('a'), term('b', null, -1)]],
    ['a@12', [term('a', 12)]],
    ['a@sha256:0123456789ab', [term('a', 'sha256:0123456789ab')]],
    [
      `a@sha256:${'f'.repeat(64)}*0.5 - b`,
      [term('a', `sha256:${'f'.repeat(64)}`, 0.5), term('b', null, -1)],
    ],
    ['a*0.5+b@2-c*0.2', [term('a', null, 0.5), term('b', 2), term('c', null, -0.2)]],
    ['a*-1', [term('a', null, -1)]],
    ['a - b*-2', [term('a'), term('b', null, 2)]],
    ['  a * 0 + b ', [term('a', null, 0), term('b')]],
    ['0x1', [term('0x1')]],
    ['a@1-b', [term('a', 1), term('b', null, -1)]],
  ] as const)('reads %s', ([text, terms], { expect }) => {
    expect(parseSelection(text)).toEqual({ ok: true, value: terms })
  })

  it.for([
    '',
    ' ',
    '-a',
    'a@sha256:0123456789a',
    'a@sha256:0123456789AB',
    'a@sha256:0123456789abg',
    `a@sha256:${'f'.repeat(65)}`,
    'a@md5:0123456789ab',
    '+a',
    'A',
    'a b',
    'a+',
    'a++b',
    'a*',
    'a*b',
    'a*1e3',
    'a*.5',
    'a*65',
    'a@0',
    'a@',
    'a@1.5',
    'a,b',
    'a_b',
    '-',
    'é',
    'a'.repeat(65),
    Array.from({ length: 17 }, () => 'a').join('+'),
    'a + '.repeat(2000),
  ])('refuses %j', (text, { expect }) => {
    expect(parseSelection(text).ok).toBe(false)
  })

  it('in its canonical form reads as itself', ({ expect }) => {
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,20}$/)
    const weight = fc.integer({ min: -6400, max: 6400 }).map((hundredths) => hundredths / 100)
    const version = fc.option(fc.integer({ min: 1, max: 999_999_999 }))
    const terms = fc.array(fc.record({ name, version, weight }), { minLength: 1, maxLength: 16 })
    fc.assert(
      fc.property(terms, (given) => {
        expect(parseSelection(formatSelection(given))).toEqual({ ok: true, value: given })
      }),
    )
  })
})
