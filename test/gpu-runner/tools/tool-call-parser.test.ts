import fc from 'fast-check'
import { describe, it } from 'vitest'
import { ToolCallParser, type AnswerPart } from '../../../gpu-runner/tools/tool-call-parser.ts'
import { TOOL_FORMATS, type ToolFormat } from '../../../gpu-runner/tools/tool-format.ts'

const formatOf = (name: string): ToolFormat => TOOL_FORMATS.find((each) => each.name === name)!
const TAGGED = formatOf('tagged')
const LIST = formatOf('tagged-list')
const BARE = formatOf('bare-json')
const NAMES = ['f', 'get_weather']

type Read = { text: string; calls: { name: string; arguments: string; isWhole: boolean }[] }

function read(format: ToolFormat, pieces: readonly string[]): Read {
  const parser = new ToolCallParser(format, NAMES)
  const parts: AnswerPart[] = [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()]
  const answer: Read = { text: '', calls: [] }
  for (const part of parts) {
    if (part.kind === 'text') answer.text += part.text
    else if (part.kind === 'call') {
      answer.calls.push({ name: part.name, arguments: part.arguments, isWhole: false })
    } else if (part.kind === 'arguments') answer.calls.at(-1)!.arguments += part.text
    else answer.calls.at(-1)!.isWhole = true
  }
  return answer
}
const call = (json: string, name = 'f', isWhole = true) => ({ name, arguments: json, isWhole })

const CASES: readonly [string, ToolFormat, string, Read][] = [
  ['free text', TAGGED, ' Hello <b> world\n ', { text: ' Hello <b> world\n ', calls: [] }],
  [
    'a call',
    TAGGED,
    '<tool_call>\n{"name": "f", "arguments": {"a": "} </tool_call> \\" {", "b": [1, {}]}}\n</tool_call>',
    { text: '', calls: [call('{"a": "} </tool_call> \\" {", "b": [1, {}]}')] },
  ],
  [
    'text, two calls and text',
    TAGGED,
    'Let me see.\n\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>\n Done. ',
    { text: 'Let me see.Done. ', calls: [call('{}'), call('{"city": "Köln"}', 'get_weather')] },
  ],
  [
    'keys in another order, and arguments that are a text',
    TAGGED,
    '<tool_call>{"arguments": "{\\"a\\": 1}", "name": "f"}</tool_call>',
    { text: '', calls: [call('{"a": 1}')] },
  ],
  [
    'no arguments at all',
    TAGGED,
    '<tool_call>{"name": "f"}</tool_call>',
    { text: '', calls: [call('{}')] },
  ],
  [
    'an unknown function',
    TAGGED,
    'a <tool_call>\n{"name": "g", "arguments": {}}\n</tool_call> b',
    { text: 'a <tool_call>\n{"name": "g", "arguments": {}}\n</tool_call> b', calls: [] },
  ],
  [
    'no JSON',
    TAGGED,
    '<tool_call>what?</tool_call>',
    { text: '<tool_call>what?</tool_call>', calls: [] },
  ],
  [
    'a call cut short',
    TAGGED,
    '<tool_call>\n{"name": "f", "arguments": {"a": "x',
    { text: '', calls: [call('{"a": "x', 'f', false)] },
  ],
  ['a marker cut short', TAGGED, 'so <tool_ca', { text: 'so <tool_ca', calls: [] }],
  [
    'a list',
    LIST,
    '<tool_call>[{"name": "f", "arguments": {"a": 1}}, {"name": "get_weather", "arguments": {}}]</tool_call>',
    { text: '', calls: [call('{"a": 1}'), call('{}', 'get_weather')] },
  ],
  [
    'a bare object',
    BARE,
    ' {"name": "f", "parameters": {"a": [1, 2]}}',
    { text: '', calls: [call('{"a": [1, 2]}')] },
  ],
  [
    'a bare object of another kind',
    BARE,
    '{"answer": {"name": "f"}}',
    { text: '{"answer": {"name": "f"}}', calls: [] },
  ],
  ['prose', BARE, 'It is {"name": "f"}.', { text: 'It is {"name": "f"}.', calls: [] }],
]

describe('ToolCallParser', () => {
  it.for(CASES)('reads %s', ([, format, text, expected], { expect }) => {
    expect(read(format, [text])).toEqual(expected)
  })

  it('parses the same however the text is cut', ({ expect }) => {
    fc.assert(
      fc.property(
        fc.constantFrom(...CASES),
        fc.array(fc.nat(200), { maxLength: 40 }),
        ([, format, text, expected], cuts) => {
          const at = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b)]
          const pieces = at.map((from, i) => text.slice(from, at[i + 1]))
          expect(read(format, pieces)).toEqual(expected)
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('parses endless white space in bounded time', ({ expect }) => {
    // A caller's logit bias can make any model write it; the engine's loop waits meanwhile.
    const beginnings: readonly [ToolFormat, string][] = [
      [TAGGED, 'So'],
      [TAGGED, '<tool_call>'],
      [TAGGED, '<tool_call>{"name": "f", "arguments": {}'],
      [TAGGED, '<tool_call>{"name": "f", "arguments": {}}'],
      [BARE, ''],
    ]
    const startedMs = performance.now()
    for (const [format, beginning] of beginnings) {
      read(format, [beginning, ...Array.from({ length: 2000 }, () => ' '.repeat(10))])
    }
    expect(performance.now() - startedMs).toBeLessThan(10_000)
  })

  it('streams arguments as they arrive', ({ expect }) => {
    const parser = new ToolCallParser(TAGGED, NAMES)
    expect(parser.push('<tool_call>\n{"name": "f", "arguments": {"a": ')).toEqual([
      { kind: 'call', name: 'f', arguments: '' },
      { kind: 'arguments', text: '{"a": ' },
    ])
    expect(parser.push('1}')).toEqual([{ kind: 'arguments', text: '1}' }, { kind: 'call-end' }])
    expect(parser.push('}\n</tool_call>')).toEqual([])
  })
})
