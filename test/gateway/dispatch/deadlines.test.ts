import { afterEach, beforeEach, describe, it, vi } from 'vitest'
import { RunnerClient } from '../../../src/dispatch/runner-client.ts'
import type { GenerateEvent } from '../../../src/protocol/runner.ts'
import { baseArm } from '../../../src/tasks/compose.ts'
import { BUILD_DIGEST, MODEL_DIGEST, RunnerDouble } from '../runner-double.ts'

const APPLIED = {
  ...{ adapters: [], scope: 'generated', rotate_from: null, layers: [] },
  ...{ model_digest: MODEL_DIGEST, build_digest: BUILD_DIGEST, bias_digest: null },
}
const ACCEPTED = { event: 'accepted', arm: 0, applied: APPLIED, prompt_tokens: 7 }
const TOKEN = { event: 'token', arm: 0, text: 'Hi', ids: [1] }

let runner: RunnerDouble

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  runner = new RunnerDouble()
  runner.install()
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** Rejects when the gateway gives the call up. */
const never = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => {
      reject(signal.reason as Error)
    })
  })

/** A runner that sends some events and then nothing, and keeps the connection. */
function fallSilentAfter(events: readonly object[]): void {
  runner.intercept = ({ signal }) => {
    const text = events.map((event) => `${JSON.stringify(event)}\n`).join('')
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode(text))
      },
      pull: () => never(signal),
    })
    return new Response(body)
  }
}

const generate = (): Promise<AsyncGenerator<GenerateEvent>> =>
  new RunnerClient(runner.url, runner.secret).generate(
    {
      request_id: 'test',
      messages: [{ role: 'user', content: 'Hi' }],
      arms: [baseArm()],
      sampling: { temperature: 0, top_p: 1, stop: [] },
    },
    new AbortController(),
  )

describe('a silent runner', () => {
  it('is given up after a minute without an admission', async ({ expect }) => {
    runner.intercept = ({ signal }) => never(signal)
    const failed = expect(generate()).rejects.toMatchObject({ kind: 'timeout' })
    await vi.advanceTimersByTimeAsync(59_999)
    expect(runner.callsTo('POST /v1/generate')).toBe(1)
    await vi.advanceTimersByTimeAsync(2)
    await failed
  })

  it.for([
    ['without its first token', [ACCEPTED], 180_000],
    ['between two tokens', [ACCEPTED, TOKEN], 120_000],
  ] as const)('is given up %s', async ([, sent, limitMs], { expect }) => {
    fallSilentAfter(sent)
    const events = await generate()
    for (const event of sent) expect((await events.next()).value).toEqual(event)
    let isOver = false
    const failed = expect(
      events.next().finally(() => {
        isOver = true
      }),
    ).rejects.toMatchObject({ kind: 'timeout' })
    await vi.advanceTimersByTimeAsync(limitMs - 1)
    expect(isOver).toBe(false)
    await vi.advanceTimersByTimeAsync(2)
    await failed
  })
})
