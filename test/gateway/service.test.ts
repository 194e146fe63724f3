import { describe, it } from 'vitest'
import type { GenerateEvent } from '../../src/protocol/runner.ts'
import { client, runner, useFreshProject } from './fresh-project.ts'
import { readSse } from './harness.ts'
import { refuse } from './runner-double.ts'

useFreshProject()

/** The deadline passes once the request is admitted. */
const expireAfterAdmission = () => {
  runner.editEvents = (events): GenerateEvent[] => [
    events[0]!,
    {
      event: 'error',
      arm: null,
      error: { code: 'deadline_exceeded', message: 'too late', outcome: 'unserviceable' },
    },
  ]
}

describe('service_tier', () => {
  it('ranks the request at the runner, and the answer says which tier served it', async ({
    expect,
  }) => {
    for (const [asked, served] of [
      ['flex', 'flex'],
      ['default', 'default'],
      ['auto', 'default'],
      ['priority', 'priority'],
      ['fast', 'priority'],
    ]) {
      for (const ask of [client.chat, client.complete]) {
        const answer = await (await ask({ service_tier: asked })).json()
        expect(answer).toMatchObject({ service_tier: served })
        expect(runner.generateRequests.at(-1)?.service_tier).toBe(served)
      }
    }
    const { events } = await readSse(await client.chat({ service_tier: 'flex', stream: true }))
    expect(new Set(events.map((event) => event['service_tier']))).toEqual(new Set(['flex']))
  })

  it('is not in the answer if the request has none', async ({ expect }) => {
    expect(await (await client.chat({})).json()).not.toHaveProperty('service_tier')
    expect(runner.generateRequests.at(-1)).not.toHaveProperty('service_tier')
  })

  it('that is not supported is refused', async ({ expect }) => {
    for (const tier of ['scale', 'batch', 1]) {
      const response = await client.chat({ service_tier: tier })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param: 'service_tier' } })
    }
  })
})

describe('x-arcana-timeout', () => {
  it('gives the runner the remaining time', async ({ expect }) => {
    for (const ask of [client.chat, client.complete]) {
      expect((await ask({}, { 'x-arcana-timeout': '2.5' })).status).toBe(200)
      const timeoutMs = runner.generateRequests.at(-1)?.timeout_ms
      expect(timeoutMs).toBeGreaterThan(1000)
      expect(timeoutMs).toBeLessThanOrEqual(2500)
    }
    await client.chat({})
    expect(runner.generateRequests.at(-1)).not.toHaveProperty('timeout_ms')
  })

  it('that is not a valid time is refused', async ({ expect }) => {
    for (const value of ['0', '-1', 'soon', '1e9', '']) {
      const response = await client.chat({}, { 'x-arcana-timeout': value })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param: 'x-arcana-timeout' } })
    }
  })

  it('gives 504 once it has passed, and tells clients not to repeat', async ({ expect }) => {
    expireAfterAdmission()
    const response = await client.chat({}, { 'x-arcana-timeout': '1' })
    expect(response.status).toBe(504)
    expect(response.headers.get('x-should-retry')).toBe('false')
    expect(await response.json()).toMatchObject({
      error: { type: 'server_error', code: 'deadline_exceeded' },
    })
  })

  it('that outlasts the usual hold still gets its status', async ({ expect }) => {
    expireAfterAdmission()
    runner.delayMs = (event) => (event !== 'die' && event.event === 'error' ? 5_500 : 0)
    expect((await client.chat({}, { 'x-arcana-timeout': '6' })).status).toBe(504)
  })

  it('ends a stream with an error once it has passed, without [DONE]', async ({ expect }) => {
    expireAfterAdmission()
    const response = await client.chat({ stream: true }, { 'x-arcana-timeout': '1' })
    expect(response.status).toBe(200)
    const { events, isDone } = await readSse(response)
    expect(isDone).toBe(false)
    expect(events.at(-1)).toMatchObject({ error: { code: 'deadline_exceeded' } })
  })
})

it('a full runner’s own Retry-After reaches the caller', async ({ expect }) => {
  runner.intercept = (request) =>
    request.url.endsWith('/v1/generate')
      ? refuse(503, 'over_capacity', 'over_capacity', { retry_after_seconds: 17 })
      : null
  const response = await client.chat({})
  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).toBe('17')
})
