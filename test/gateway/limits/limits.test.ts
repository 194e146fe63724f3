import { exports } from 'cloudflare:workers'
import OpenAI from 'openai'
import { afterEach, beforeEach, describe, it, vi } from 'vitest'
import { clientOf, makeProject, MODEL, readSse, type Client } from '../harness.ts'
import { RunnerDouble } from '../runner-double.ts'

type Json = Record<string, unknown>
/** A caller is kept for five seconds, so limits are set before a key is first used. */
type Own = { readonly client: Client; readonly key: string }

let runner: RunnerDouble
let admin: Client
let projectId: string
beforeEach(async () => {
  runner = new RunnerDouble()
  runner.install()
  const made = await makeProject({ organizationId: `org-${crypto.randomUUID()}` })
  projectId = made.projectId
  admin = clientOf(made.key)
})
afterEach(() => {
  vi.restoreAllMocks()
})

const limit = async (body: Json, id = 'rl-project'): Promise<Json> => {
  const path = `/v1/organization/projects/${projectId}/rate_limits/${id}`
  return (await admin.call('POST', path, body)).json()
}
const newKey = async (): Promise<Own & { readonly id: string }> => {
  const path = `/v1/organization/projects/${projectId}/api_keys`
  const made = await (
    await admin.call('POST', path, { name: 'k' })
  ).json<{ id: string; value: string }>()
  return { id: made.id, key: made.value, client: clientOf(made.value) }
}
/** A held answer: the runner is silent before its end until `release` is called. */
const holdAnswers = () => {
  const gate = Promise.withResolvers<null>()
  runner.intercept = async (request) =>
    request.url.endsWith('/v1/generate') ? await gate.promise : null
  return () => {
    gate.resolve(null)
  }
}

describe('a limit of requests a minute', () => {
  it('answers 429 in OpenAI’s shape past it, and says where it stands', async ({ expect }) => {
    await limit({ max_requests_per_1_minute: 2 })
    const { client, key } = await newKey()
    const first = await client.chat({ max_tokens: 2 })
    expect(first.status).toBe(200)
    expect(first.headers.get('x-ratelimit-limit-requests')).toBe('2')
    expect(first.headers.get('x-ratelimit-remaining-requests')).toBe('1')
    expect(first.headers.get('x-ratelimit-reset-requests')).toMatch(/^(1m0s|[56]\d?s)$/)
    expect(first.headers.has('x-ratelimit-limit-tokens')).toBe(false)
    expect((await client.complete({ max_tokens: 2 })).status).toBe(200)
    const third = await client.respond({})
    expect(third.status).toBe(429)
    expect(await third.json()).toEqual({
      error: {
        message: expect.stringContaining(
          'requests per min (RPM): Limit 2, Used 2, Requested 1.',
        ) as unknown,
        type: 'requests',
        param: null,
        code: 'rate_limit_exceeded',
      },
    })
    const after = Number(third.headers.get('retry-after'))
    expect(after).toBeGreaterThan(40)
    expect(after).toBeLessThanOrEqual(60)
    expect(third.headers.get('x-ratelimit-remaining-requests')).toBe('0')
    const sdk = new OpenAI({
      apiKey: key,
      baseURL: 'http://gateway/v1',
      maxRetries: 0,
      fetch: (url, init) => exports.default.fetch(url, init),
    })
    const messages = [{ role: 'user' as const, content: 'Hi' }]
    await expect(sdk.chat.completions.create({ model: MODEL, messages })).rejects.toBeInstanceOf(
      OpenAI.RateLimitError,
    )
  })

  it('counts two keys of a project together, and each for itself', async ({ expect }) => {
    await limit({ max_requests_per_1_minute: 3 })
    const [one, two] = [await newKey(), await newKey()]
    const set = await limit({ max_requests_per_1_minute: 1 }, `rl-${one.id}`)
    expect(set).toMatchObject({ id: `rl-${one.id}`, api_key_id: one.id })
    expect((await one.client.chat({})).status).toBe(200)
    const refused = await one.client.chat({})
    expect(refused.status).toBe(429)
    expect(await refused.text()).toContain('this API key')
    expect((await two.client.chat({})).status).toBe(200)
    expect((await two.client.chat({})).status).toBe(200)
    expect(await (await two.client.chat({})).text()).toContain('this project')
  })

  it('is exact under 200 requests at once', async ({ expect }) => {
    await limit({ max_requests_per_1_minute: 100 })
    const { client } = await newKey()
    const answers = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const response = await client.chat({ max_tokens: 2 })
        await response.text()
        return response.status
      }),
    )
    const numServed = answers.filter((status) => status === 200).length
    expect(answers.every((status) => status === 200 || status === 429)).toBe(true)
    expect(numServed).toBeLessThanOrEqual(100)
    expect(numServed).toBeGreaterThanOrEqual(95)
  })
})

describe('a limit of tokens a minute', () => {
  it('reserves an estimate, then counts what was used', async ({ expect }) => {
    await limit({ max_tokens_per_1_minute: 100 })
    const { client } = await newKey()
    // 50 and a few of the prompt are reserved; 9 are used.
    for (let i = 1; i <= 4; i++) {
      const response = await client.chat({ max_tokens: 50 })
      expect(response.status).toBe(200)
      await response.text()
      await vi.waitFor(async () => {
        const next = await client.chat({ max_tokens: 1000 })
        expect(next.status).toBe(429)
        const left = Number(next.headers.get('x-ratelimit-remaining-tokens'))
        expect(left).toBeLessThanOrEqual(100 - 9 * i)
        expect(left).toBeGreaterThanOrEqual(95 - 9 * i)
      })
    }
    const large = await client.chat({ max_tokens: 1000 })
    expect(large.headers.get('x-should-retry')).toBe('false')
    expect(await large.json()).toMatchObject({ error: { type: 'tokens' } })
  })
})

describe('a limit of concurrent requests', () => {
  it('refuses one more, and lets it in when one has ended', async ({ expect }) => {
    await limit({ max_concurrent_requests: 1 })
    const { client } = await newKey()
    const release = holdAnswers()
    const first = client.chat({ stream: true })
    await vi.waitFor(() => {
      expect(runner.callsTo('POST /v1/generate')).toBe(1)
    })
    const second = await client.chat({})
    expect(second.status).toBe(429)
    expect(second.headers.get('retry-after')).toBe('1')
    expect(await second.text()).toContain('concurrent requests')
    release()
    expect((await readSse(await first)).isDone).toBe(true)
    await vi.waitFor(async () => {
      const next = await client.chat({})
      await next.text()
      expect(next.status).toBe(200)
    })
  })

  it('lets the next one in when a client has left', async ({ expect }) => {
    await limit({ max_concurrent_requests: 1 })
    const { client } = await newKey()
    runner.delayMs = (event) => (event !== 'die' && event.event === 'end' ? 60_000 : 0)
    const first = await client.chat({ stream: true })
    const reader = first.body!.getReader()
    await reader.read()
    expect((await client.chat({})).status).toBe(429)
    await reader.cancel()
    runner.delayMs = () => 0
    await vi.waitFor(async () => {
      const next = await client.chat({})
      await next.text()
      expect(next.status).toBe(200)
    })
  })
})

describe('a monthly budget', () => {
  it('answers 429 insufficient_quota, which clients do not repeat', async ({ expect }) => {
    await limit({ max_tokens_per_1_month: 20 })
    const { client } = await newKey()
    expect((await client.chat({ max_tokens: 5 })).status).toBe(200)
    const refused = await client.chat({ max_tokens: 50 })
    expect(refused.status).toBe(429)
    expect(refused.headers.get('x-should-retry')).toBe('false')
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await refused.json()).toMatchObject({
      error: { type: 'insufficient_quota', code: 'insufficient_quota' },
    })
  })
})

describe('the rate limits of a project', () => {
  it('are listed and changed by the official client', async ({ expect }) => {
    const { id } = await newKey()
    const sdk = new OpenAI({
      apiKey: 'none',
      adminAPIKey: (await makeProject()).key,
      baseURL: 'http://gateway/v1',
      fetch: (url, init) => exports.default.fetch(url, init),
    })
    // The admin of another organisation sees nothing.
    const foreign = sdk.admin.organization.projects.rateLimits.listRateLimits(projectId)
    await expect(foreign).rejects.toMatchObject({ status: 404 })
    await limit({ max_requests_per_1_minute: 7, max_concurrent_requests: 3 })
    expect(await limit({ max_concurrent_requests: null })).toMatchObject({
      id: 'rl-project',
      object: 'project.rate_limit',
      model: '*',
      api_key_id: null,
      max_requests_per_1_minute: 7,
      max_concurrent_requests: null,
    })
    const path = `/v1/organization/projects/${projectId}/rate_limits`
    const ids: string[] = []
    let after = ''
    for (let hasMore = true; hasMore;) {
      const page = await (
        await admin.call('GET', `${path}?limit=1${after}`)
      ).json<{ data: { id: string }[]; has_more: boolean }>()
      ids.push(...page.data.map((one) => one.id))
      after = `&after=${page.data.at(-1)!.id}`
      hasMore = page.has_more
    }
    expect(ids[0]).toBe('rl-project')
    expect(ids).toContain(`rl-${id}`)
    expect(ids).toHaveLength(3)
    for (const bad of [{ max_requests_per_1_minute: -1 }, { max_images_per_1_minute: 1 }]) {
      expect(await limit(bad)).toMatchObject({ error: { type: 'invalid_request_error' } })
    }
    expect(await limit({}, 'rl-key_none')).toMatchObject({
      error: { code: 'rate_limit_not_found' },
    })
  })
})

// The last, because the runner's circuit is open after it.
describe('an answer that failed', () => {
  it('is charged nothing', async ({ expect }) => {
    await limit({ max_tokens_per_1_minute: 100 })
    const { client } = await newKey()
    runner.isDown = true
    for (let i = 0; i < 5; i++) {
      const status = await vi.waitFor(async () => {
        const response = await client.chat({ max_tokens: 50 })
        expect(response.status).not.toBe(429)
        return response.status
      })
      expect(status).toBe(503)
    }
  })
})
