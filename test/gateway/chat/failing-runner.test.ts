import { beforeEach, describe, it, vi } from 'vitest'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import { publishTask, readSse } from '../harness.ts'
import { refuse } from '../runner-double.ts'

useFreshProject()

// The test before may have opened the runner's circuit: a whole answer closes it.
beforeEach(async ({ expect }) => {
  await vi.waitFor(async () => {
    const { status } = await client.chat({})
    expect(status).toBe(200)
  }, 10_000)
  runner.calls.length = 0
  runner.generateRequests.length = 0
})

describe('a runner that fails', () => {
  it('mid-answer gives 502, or an error without [DONE] in a stream', async ({ expect }) => {
    runner.editEvents = (events) => [...events.slice(0, 2), 'die']
    const whole = await client.chat({})
    expect(whole.status).toBe(502)
    expect(await whole.json()).toMatchObject({ error: { code: 'runner_died' } })
    await vi.waitFor(async () => {
      const { events, isDone } = await readSse(await client.chat({ stream: true }))
      expect(isDone).toBe(false)
      expect(events.at(-1)).toMatchObject({ error: { code: 'runner_died' } })
    }, 10_000)
  })

  it('by closing after its last end but before its terminal frame is an error', async ({
    expect,
  }) => {
    runner.editEvents = (events) => events.filter((event) => event.event !== 'done')
    const { events, isDone } = await readSse(await client.chat({ stream: true }))
    expect(isDone).toBe(false)
    expect(events.at(-1)).toMatchObject({ error: { code: 'runner_died' } })
  })

  it('by lines outside the protocol gives 502', async ({ expect }) => {
    for (const text of [
      'not json\n',
      '{"event":"surprise"}\n',
      '{"event":"token","arm":0}\n',
      '',
    ]) {
      runner.intercept = (request) =>
        request.url.endsWith('/v1/generate') ? new Response(text) : null
      await vi.waitFor(async () => {
        const response = await client.chat({})
        expect(response.status).toBe(502)
      }, 10_000)
    }
  })

  it('is not one that cuts events anywhere, even inside a character', async ({ expect }) => {
    runner.words = () => ['Grüße', ' 世界']
    for (const isCutFine of [false, true]) {
      runner.isCutFine = isCutFine
      expect(await (await client.chat({})).json()).toMatchObject({
        choices: [{ message: { content: 'Grüße 世界' } }],
      })
    }
  })

  it('at capacity gives 503 with Retry-After', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate') ? refuse(503, 'over_capacity', 'over_capacity') : null
    const response = await client.chat({})
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toMatchObject({ error: { code: 'over_capacity' } })
  })

  it('to keep an adapter that it received is asked only once more', async ({ expect }) => {
    await publishTask(projectId, 'a')
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate') ? refuse(409, 'adapter_not_resident', 'retryable') : null
    const response = await client.chat({}, { 'x-task': 'a' })
    expect(response.status).toBe(502)
    expect(runner.callsTo('PUT /v1/adapters')).toBe(1)
    expect(runner.callsTo('POST /v1/generate')).toBe(2)
  })
})
