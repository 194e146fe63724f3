import { it } from 'vitest'
import { client, runner, useFreshProject } from '../fresh-project.ts'
import { MODEL } from '../harness.ts'

useFreshProject()

it('max_tokens past the model’s context is refused as OpenAI does', async ({ expect }) => {
  const limit = runner.status().model.max_context
  const refused = [
    await client.chat({ max_tokens: 1e9 }),
    await client.chat({ max_completion_tokens: limit + 1 }),
    await client.chat({ max_tokens: 1e9, stream: true }),
    await client.call('POST', '/v1/completions', { model: MODEL, prompt: 'a', max_tokens: 1e9 }),
  ]
  for (const response of refused) {
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: {
        type: 'invalid_request_error',
        param: 'max_tokens',
        code: 'invalid_value',
        message: expect.stringMatching(/too large.*at most \d+ completion tokens/) as string,
      },
    })
  }
  expect(runner.generateRequests).toHaveLength(0)
  expect((await client.chat({ max_tokens: limit })).status).toBe(200)
})
