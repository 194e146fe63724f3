import { describe, it } from 'vitest'
import { parseTrainingLine } from '../../../src/files/training-line.ts'
import { buildDatasets } from '../../../src/jobs/dataset.ts'

const read = (line: object) => {
  const parsed = parseTrainingLine(JSON.stringify(line))
  return parsed.ok ? parsed.value : parsed.error.message
}
const user = (content: string, more: object = {}) => ({ role: 'user', content, ...more })
const assistant = (content: string | null, more: object = {}) => ({
  role: 'assistant',
  content,
  ...more,
})

describe('a line of a training file', () => {
  it('may have null or nothing in what it does not use', ({ expect }) => {
    const plain = read({ messages: [user('hi'), assistant('yes')] })
    expect(
      read({
        messages: [
          user('hi', { name: null, weight: null }),
          assistant('yes', {
            name: '',
            refusal: null,
            tool_calls: null,
            function_call: null,
            audio: null,
            annotations: [],
          }),
        ],
        tools: [],
        functions: null,
        parallel_tool_calls: true,
        label: null,
      }),
    ).toEqual(plain)
    expect(plain).toMatchObject({ messages: [user('hi')], answer: 'yes' })
    const labelled = read({ input: 'hi', label: 'a' })
    expect(read({ input: 'hi', label: 'a', target: null })).toEqual(labelled)
    expect(read({ input: 'hi', label: 'a', target: '', messages: [] })).toEqual(labelled)
    const graded = read({ input: 'hi' })
    expect(read({ input: 'hi', label: null, target: null })).toEqual(graded)
    const pair = { input: 'hi', preferred: 'a', rejected: 'b' }
    expect(read({ ...pair, label: null, target: null })).toEqual(read(pair))
  })

  it('keeps its speakers’ names', ({ expect }) => {
    expect(
      read({ messages: [user('hi', { name: 'bob' }), assistant('yes', { name: 'al' })] }),
    ).toMatchObject({ messages: [{ role: 'user', content: 'hi', name: 'bob' }], answer: 'yes' })
  })

  it('is learnt by its last answer that has weight; others are context', ({ expect }) => {
    const turns = (...weights: (0 | 1 | undefined)[]) =>
      read({
        messages: weights.flatMap((weight, i) => [
          user(`q${i}`),
          assistant(`a${i}`, weight === undefined ? {} : { weight }),
        ]),
      })
    const second = {
      messages: [user('q0'), assistant('a0'), user('q1')],
      answer: 'a1',
    }
    for (const line of [turns(0, 1), turns(undefined, undefined), turns(0, undefined)]) {
      expect(line).toMatchObject(second)
      expect(line).not.toHaveProperty('notes')
    }
    expect(turns(1, 1)).toMatchObject({ ...second, notes: ['earlier_answers'] })
    // Nothing that comes after an answer changes it.
    expect(turns(1, 0)).toEqual(read({ messages: [user('q0'), assistant('a0')] }))
    const silent = [user('q0'), assistant(null, { weight: 0 }), user('q1'), assistant('a1')]
    expect(read({ messages: silent })).toMatchObject({
      messages: [user('q0'), assistant(''), user('q1')],
    })
  })

  it('that would lose something is refused by name', ({ expect }) => {
    const call = { id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }
    const last = assistant('yes')
    const cases: [object, string][] = [
      [{ messages: [user('q'), assistant('a', { weight: 0 })] }, 'every answer has weight 0'],
      [{ messages: [user('q'), assistant('a', { weight: 0.5 })] }, 'messages[1].weight: must be'],
      [
        { messages: [user('q', { weight: 1 }), last] },
        'messages[0].weight: is only allowed in assistant messages',
      ],
      [{ messages: [user('q', { name: 'a b' }), last] }, 'messages[0].name: must be'],
      [{ messages: [user('q'), assistant('no', { refusal: 'no' })] }, 'messages[1].refusal: '],
      [
        { messages: [user('q'), assistant(null, { tool_calls: [call] }), last] },
        'messages[1].tool_calls: calls of functions are not learnt',
      ],
      [
        { messages: [user('q'), { role: 'tool', tool_call_id: 'c', content: 'x' }, last] },
        'messages[1].role: "tool": results of functions are not learnt',
      ],
      [{ messages: [user('q'), last], tools: [call] }, 'tools: a task does not learn'],
      [
        { messages: [user('q'), last], functions: [{ name: 'f' }] },
        'functions: a task does not learn',
      ],
      [{ messages: [user('q'), assistant(null)] }, 'the assistant’s answer is blank'],
      [{ messages: [user('q'), last], wait: 1 }, 'unknown field "wait"'],
      [{ input: 'q', label: '' }, 'label: must not be empty'],
      [{ input: 'q', label: 'a', target: 'b' }, 'must hold a label or a target, not both'],
    ]
    for (const [line, fault] of cases) expect(read(line)).toContain(fault)
  })

  it('whose earlier answers have weight is warned of', ({ expect }) => {
    const chat = (text: string, answer: string) => {
      const messages = [user('q'), assistant('a', { weight: 1 }), user(text), assistant(answer)]
      const parsed = parseTrainingLine(JSON.stringify({ messages }))
      if (!parsed.ok) throw new Error(parsed.error.message)
      return parsed.value
    }
    const lines = ['x', 'y', 'x', 'y'].map((answer, i) => ({
      example: chat(`t${i}`, answer),
      line: i + 1,
    }))
    const built = buildDatasets(lines, null, {
      instructions: null,
      position: 'before',
      labels: null,
      objective: null,
      grader: null,
    })
    expect(built.ok && built.value.warnings).toMatchObject([
      { code: 'earlier_answers', lines: [1, 2, 3, 4] },
    ])
  })
})
