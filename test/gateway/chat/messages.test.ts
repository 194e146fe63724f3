import { describe, it } from 'vitest'
import { client, runner, useFreshProject } from '../fresh-project.ts'

useFreshProject()

const CALL = { id: 'c1', type: 'function', function: { name: 'look', arguments: '{}' } }
const sent = () => runner.generateRequests.at(-1)?.messages

describe('a speaker’s name', () => {
  it('goes to the model’s template with its message', async ({ expect }) => {
    const response = await client.chat({
      messages: [
        { role: 'system', name: 'rules', content: 'Be brief.' },
        { role: 'user', name: 'bob', content: 'hi' },
        { role: 'user', name: null, content: 'Well?' },
        { role: 'assistant', name: 'Zoë', content: null, tool_calls: [CALL] },
        { role: 'tool', name: 'look', tool_call_id: 'c1', content: 'seen' },
      ],
    })
    expect(response.status).toBe(200)
    expect(sent()).toEqual([
      { role: 'system', name: 'rules', content: 'Be brief.' },
      { role: 'user', name: 'bob', content: 'hi' },
      { role: 'user', content: 'Well?' },
      {
        role: 'assistant',
        name: 'Zoë',
        content: '',
        tool_calls: [{ id: 'c1', name: 'look', arguments: {} }],
      },
      { role: 'tool', name: 'look', tool_call_id: 'c1', content: 'seen' },
    ])
  })

  it('is taken in comparisons too', async ({ expect }) => {
    const messages = [{ role: 'user', name: 'bob', content: 'hi' }]
    const response = await client.call('POST', '/v1/compare', { messages, arms: ['base'] })
    expect(response.status).toBe(200)
    expect(sent()).toEqual(messages)
  })

  it('that is invalid, or another function’s, is refused by name', async ({ expect }) => {
    const asked = { role: 'assistant', content: null, tool_calls: [CALL] }
    const cases: [object, string][] = [
      ...['', 'two words', '<|im_end|>', 'x'.repeat(65), 7].map((name): [object, string] => [
        { messages: [{ role: 'user', name, content: 'hi' }] },
        'messages[0].name',
      ]),
      [
        { messages: [asked, { role: 'tool', name: 'hear', tool_call_id: 'c1', content: 'x' }] },
        'messages[1].name',
      ],
    ]
    for (const [body, param] of cases) {
      const response = await client.chat(body as Record<string, unknown>)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
  })
})

describe('an answer without content', () => {
  it('is accepted back as history unchanged', async ({ expect }) => {
    for (const withheld of [
      { role: 'assistant', content: null, refusal: null },
      { role: 'assistant' },
    ]) {
      const response = await client.chat({
        messages: [
          { role: 'user', content: 'Which?' },
          withheld,
          { role: 'user', content: 'Try again.' },
        ],
      })
      expect(response.status).toBe(200)
      expect(sent()?.[1]).toEqual({ role: 'assistant', content: '' })
      const messages = [{ role: 'user', content: 'Which?' }, withheld]
      const compared = await client.call('POST', '/v1/compare', { messages, arms: ['base'] })
      expect(compared.status).toBe(200)
    }
  })

  it('is only accepted from an assistant', async ({ expect }) => {
    for (const role of ['user', 'system']) {
      const response = await client.chat({ messages: [{ role, content: null }] })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param: 'messages[0].content' } })
    }
  })
})
