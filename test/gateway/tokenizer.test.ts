import { exports } from 'cloudflare:workers'
import { describe, it } from 'vitest'
import { client, runner, useFreshProject } from './fresh-project.ts'
import { MODEL } from './harness.ts'

useFreshProject()

describe('the tokenizer', () => {
  it('answers as a runner of the model does', async ({ expect }) => {
    runner.intercept = async (request) => {
      const path = new URL(request.url).pathname
      if (path === '/tokenizer_info') {
        return Response.json({
          vocab_size: 9,
          max_model_len: 100,
          bos_token: null,
          eos_token: '<end>',
          eos_token_id: 2,
          pad_token: null,
          chat_template: '{{ messages }}',
        })
      }
      if (path === '/tokenize') {
        const { prompt } = await request.json<{ prompt: string }>()
        const tokens = Array.from(prompt, (char) => char.charCodeAt(0))
        return Response.json({ tokens, count: tokens.length, max_model_len: 100 })
      }
      if (path !== '/detokenize') return null
      const { tokens } = await request.json<{ tokens: number[] }>()
      return Response.json({ prompt: String.fromCharCode(...tokens) })
    }
    const info = await client.call('GET', '/tokenizer_info')
    expect(await info.json()).toMatchObject({ eos_token: '<end>', bos_token: null })
    const body = { prompt: 'ab', add_special_tokens: false }
    const tokens = await client.call('POST', '/tokenize', body)
    expect(await tokens.json()).toEqual({ tokens: [97, 98], count: 2, max_model_len: 100 })
    const text = await client.call('POST', '/detokenize', { model: MODEL, tokens: [97, 98] })
    expect(await text.json()).toEqual({ prompt: 'ab' })
  })

  it.for([
    ['GET', '/tokenizer_info'],
    ['POST', '/tokenize'],
    ['POST', '/detokenize'],
  ] as const)('wants a key for %s %s', async ([method, path], { expect }) => {
    const response = await exports.default.fetch(`http://gateway${path}`, { method })
    expect(response.status).toBe(401)
    expect(runner.calls).toEqual([])
  })

  it('refuses invalid fields by name', async ({ expect }) => {
    const cases: [string, object, number, string][] = [
      ['/tokenize', { prompt: 7 }, 400, 'prompt'],
      ['/tokenize', { prompt: 'x', return_token_strs: true }, 400, 'return_token_strs'],
      ['/tokenize', { prompt: 'x', model: 'gpt-4o' }, 404, 'model'],
      ['/detokenize', { tokens: ['a'] }, 400, 'tokens[0]'],
    ]
    for (const [path, body, status, param] of cases) {
      const response = await client.call('POST', path, body)
      expect(response.status).toBe(status)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
    runner.isDown = true
    expect((await client.call('POST', '/tokenize', { prompt: 'x' })).status).toBe(503)
  })
})
