import { beforeEach, describe, it, vi } from 'vitest'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import type { GenerateEvent } from '../../../src/protocol/runner.ts'
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

  /** What a runner sends for a generation, and the error that a caller sees. */
  const answers: [string, () => Response, string][] = [
    ['text that is not JSON', () => new Response('not json\n'), 'runner_malformed'],
    ['bytes that are not text', () => new Response(Uint8Array.of(0xff, 0x0a)), 'runner_malformed'],
    ['an unknown event', () => new Response('{"event":"surprise"}\n'), 'runner_malformed'],
    ['an event without its fields', () => new Response('{"event":"end"}\n'), 'runner_malformed'],
    ['nothing', () => new Response(''), 'runner_died'],
    ['half a line', () => new Response('{"event":'), 'runner_died'],
    ['an endless line', () => new Response('x'.repeat(5 << 20)), 'runner_oversized'],
    ['a page of a proxy', () => new Response('<h1>500</h1>', { status: 500 }), 'runner_error'],
    [
      'NaN as Python writes it',
      () => new Response('{"event":"accepted","arm":NaN}\n'),
      'runner_not_finite',
    ],
    [
      'NaN as JavaScript writes it',
      () => new Response('{"event":"done","num_prefills":null}\n'),
      'runner_not_finite',
    ],
    [
      'an infinite number',
      () => new Response('{"event":"done","num_prefills":1e999}\n'),
      'runner_not_finite',
    ],
  ]
  it.for(answers)('by %s gives 502 by a code of its own', async ([, answer, code], { expect }) => {
    runner.intercept = (request) => (request.url.endsWith('/v1/generate') ? answer() : null)
    const response = await client.chat({})
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ error: { code } })
  })

  type Edit = (event: GenerateEvent) => GenerateEvent
  const edits: [string, Edit, string][] = [
    [
      'more tokens than were asked for',
      (event) => (event.event === 'token' ? { ...event, ids: [1, 2, 3, 4, 5, 6, 7, 8, 9] } : event),
      'runner_oversized',
    ],
    [
      'a negative usage',
      (event) =>
        event.event === 'end'
          ? { ...event, usage: { ...event.usage, completion_tokens: -5 } }
          : event,
      'runner_malformed',
    ],
    [
      'the usage of another prompt',
      (event) =>
        event.event === 'end'
          ? { ...event, usage: { ...event.usage, prompt_tokens: 9_999 } }
          : event,
      'runner_malformed',
    ],
    [
      'labels that nobody asked for',
      (event) => (event.event === 'token' ? { event: 'labels', arm: 0, labels: [] } : event),
      'runner_malformed',
    ],
  ]
  it.for(edits)('by %s gives 502', async ([, edit, code], { expect }) => {
    runner.editEvents = (events) => events.map(edit)
    const response = await client.chat({ max_tokens: 8 })
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ error: { code } })
  })

  type EditAll = (events: GenerateEvent[]) => GenerateEvent[]
  const orders: [string, EditAll][] = [
    ['without an admission', (events) => events.slice(1)],
    ['with two admissions', (events) => [events[0]!, ...events]],
    ['without an end', (events) => events.filter(({ event }) => event !== 'end')],
    ['with a token after the end', (events) => [...events.slice(0, -1), ...events.slice(1, 2)]],
    ['of an arm that nobody asked for', (events) => events.map((e) => ({ ...e, arm: 1 }))],
  ]
  it.for(orders)('by events %s gives 502 runner_malformed', async ([, edit], { expect }) => {
    runner.editEvents = edit
    const response = await client.chat({ max_tokens: 8 })
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ error: { code: 'runner_malformed' } })
  })

  it('by a status of another version, or none of the protocol, gives 502', async ({ expect }) => {
    const statuses: [() => Response, string][] = [
      [() => Response.json({ protocol_version: 7 }), 'runner_wrong_version'],
      [() => new Response('{"protocol_version":NaN}'), 'runner_not_finite'],
      [() => new Response('welcome'), 'runner_malformed'],
      [() => new Response('x'.repeat(5 << 20)), 'runner_oversized'],
    ]
    for (const [status, code] of statuses) {
      runner.intercept = (request) => (request.url.endsWith('/v1/status') ? status() : null)
      // The last status is kept for a moment.
      await vi.waitFor(async () => {
        const response = await client.chat({})
        expect(response.status).toBe(502)
        expect(await response.json()).toMatchObject({ error: { code } })
      }, 15_000)
    }
  })

  it('by a proxy that is busy gives 503 with the proxy’s Retry-After', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate')
        ? new Response('busy', { status: 429, headers: { 'retry-after': '7' } })
        : null
    const response = await client.chat({})
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('7')
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
