import { describe, it } from 'vitest'
import { client, runner, useFreshProject } from '../fresh-project.ts'
import { MODEL } from '../harness.ts'

useFreshProject()

const EVERYWHERE = {
  user: 'someone',
  metadata: { a: 'b' },
  safety_identifier: 'x',
  prompt_cache_key: 'k',
  prompt_cache_retention: '24h',
}
const NAMED = 'x-arcana-ignored'

describe('a parameter without effect', () => {
  it('is accepted in a chat and named in a header', async ({ expect }) => {
    const fields = { ...EVERYWHERE, reasoning_effort: 'low', verbosity: 'high', store: false }
    for (const stream of [false, true]) {
      const response = await client.chat({ ...fields, stream })
      expect(response.status).toBe(200)
      expect(response.headers.get(NAMED)?.split(', ').sort()).toEqual(Object.keys(fields).sort())
      await response.text()
    }
    const [plain] = runner.generateRequests
    await client.chat({})
    expect(runner.generateRequests[2]).toEqual({
      ...plain,
      request_id: runner.generateRequests[2]?.request_id,
    })
  })

  it('is accepted in a completion too', async ({ expect }) => {
    const body = { model: MODEL, prompt: 'Hi', ...EVERYWHERE }
    const response = await client.call('POST', '/v1/completions', body)
    expect(response.status).toBe(200)
    expect(response.headers.get(NAMED)).toBe(Object.keys(EVERYWHERE).join(', '))
  })

  it('is not named if it is absent, or has the value that applies anyway', async ({ expect }) => {
    const response = await client.chat({
      prediction: null,
      reasoning_effort: null,
      verbosity: null,
      metadata: null,
      store: null,
      modalities: ['text'],
      functions: [],
    })
    expect(response.status).toBe(200)
    expect(response.headers.has(NAMED)).toBe(false)
  })
})
