import { afterAll, beforeAll, beforeEach, describe, test } from 'vitest'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { PREFILL_CHUNK_LEN } from '../../../gpu-runner/scheduler/chunks.ts'
import type { Arm, GenerateEvent, GenerateRequest } from '../../../src/protocol/runner.ts'
import { generate, openTestRunner, randomRotation, residentAdapter } from '../../fixtures/runner.ts'

const BASE: Arm = { adapters: [], scope: 'generated' }
const LONG = 'The river runs under seven old stone bridges while engineers count coins. '.repeat(20)

let runner: Runner

beforeAll(async () => {
  runner = await openTestRunner()
})
afterAll(() => runner.release())

let numTenants = 0
let tenant: string
beforeEach(() => {
  tenant = `tenant-${++numTenants}`
})

const ask = (content: string, extra: Partial<GenerateRequest> = {}): GenerateRequest => ({
  ...untenanted(content),
  tenant,
  ...extra,
})

const untenanted = (content: string): GenerateRequest => ({
  request_id: 'test',
  messages: [{ role: 'user', content }],
  arms: [BASE],
  // Every bit of the logits shows in the log probabilities.
  sampling: { max_tokens: 6, temperature: 0, top_p: 1, stop: [], logprobs: 5 },
})

const run = async (wire: GenerateRequest) => {
  const events = await generate(runner, wire)
  return { tokens: saidBy(events), ends: events.filter((event) => event.event === 'end') }
}
const saidBy = (events: readonly GenerateEvent[]) =>
  events.filter((event) => event.event === 'token')
const cachedOf = (answer: Awaited<ReturnType<typeof run>>): number[] =>
  answer.ends.map(({ usage }) => usage.cached_tokens)
const promptLen = (content: string): number =>
  runner.context.tokenizer.encodeChat([{ role: 'user', content }]).length

describe('a cached prompt', () => {
  test('is not computed again, and its answer has the same bits', async ({ expect }) => {
    const first = await run(ask(LONG))
    const before = runner.engine.counters.prefillTokens
    const second = await run(ask(LONG))
    expect(cachedOf(first)).toEqual([0])
    // All but the last token, which is the first decode step.
    expect(cachedOf(second)).toEqual([promptLen(LONG) - 1])
    expect(runner.engine.counters.prefillTokens).toBe(before)
    expect(second.tokens).toEqual(first.tokens)
    const unshared = await run(untenanted(LONG))
    expect(cachedOf(unshared)).toEqual([0])
    expect(unshared.tokens).toEqual(first.tokens)
  })

  test('serves its common beginning, at chunk boundaries', async ({ expect }) => {
    await run(ask(LONG))
    const other = `${LONG} And then?`
    const shared = await run(ask(other))
    const [cached] = cachedOf(shared)
    expect(cached! % PREFILL_CHUNK_LEN).toBe(0)
    expect(cached).toBe(PREFILL_CHUNK_LEN * Math.floor((promptLen(LONG) - 1) / PREFILL_CHUNK_LEN))
    tenant = 'another'
    const alone = await run(ask(other))
    expect(cachedOf(alone)).toEqual([0])
    expect(shared.tokens).toEqual(alone.tokens)
  })

  test('serves every adapter of scope generated, and no prompt under scope all', async ({
    expect,
  }) => {
    const generated = await residentAdapter(runner, randomRotation(runner, 1, 0.4))
    const all = await residentAdapter(runner, randomRotation(runner, 2, 0.4), 'all')
    const under = (digest: string, scope: Arm['scope'], weight = 1) =>
      ask(LONG, { arms: [{ adapters: [{ digest, weight }], scope }] })
    const rotated = await run(under(all, 'all'))
    expect(cachedOf(rotated)).toEqual([0])
    expect(cachedOf(await run(ask(LONG)))).toEqual([0])
    const full = promptLen(LONG) - 1
    expect(cachedOf(await run(under(generated, 'generated')))).toEqual([full])
    // Rotated prompts are shared only under the same rotation.
    expect(cachedOf(await run(under(all, 'all', 0.5)))).toEqual([0])
    const again = await run(under(all, 'all'))
    expect(cachedOf(again)).toEqual([full])
    expect(again.tokens).toEqual(rotated.tokens)
  })

  test('is looked up arm by arm in one request', async ({ expect }) => {
    const all = await residentAdapter(runner, randomRotation(runner, 3, 0.4), 'all')
    await run(ask(LONG))
    const arms: Arm[] = [BASE, BASE, { adapters: [{ digest: all, weight: 1 }], scope: 'all' }]
    const full = promptLen(LONG) - 1
    const answer = await run(ask(LONG, { arms }))
    const byArm = answer.ends.sort((a, b) => a.arm - b.arm)
    expect(byArm.map(({ usage }) => usage.cached_tokens)).toEqual([full, full, 0])
  })
})

test('a rotated part of a prompt is never kept, and the part before it is', async ({ expect }) => {
  const digest = await residentAdapter(runner, randomRotation(runner, 4, 0.4))
  const from = 200
  const arm: Arm = { adapters: [{ digest, weight: 1 }], scope: 'generated', rotate_from: from }
  const first = await run(ask(LONG, { arms: [arm] }))
  const again = await run(ask(LONG, { arms: [arm] }))
  expect(cachedOf(again)).toEqual([PREFILL_CHUNK_LEN])
  expect(again.tokens).toEqual(first.tokens)
  const base = await run(ask(LONG))
  expect(cachedOf(base)).toEqual([PREFILL_CHUNK_LEN])
  expect(base.tokens).toEqual((await run(untenanted(LONG))).tokens)
})

describe('the budget', () => {
  test('is never exceeded, and answers stay right beyond it', async ({ expect }) => {
    const small = await openTestRunner({ prefixCacheBytes: 20 << 20 })
    try {
      const { prefixCache } = small.engine
      for (let round = 0; round < 2; round++) {
        for (const name of ['one', 'two', 'three']) {
          const wire = ask(`${name}: ${LONG}`)
          const expected = saidBy(await generate(runner, wire))
          expect(saidBy(await generate(small, wire))).toEqual(expected)
          expect(prefixCache.sizeBytes).toBeLessThanOrEqual(20 << 20)
        }
      }
      expect(prefixCache.counters.evicted).toBeGreaterThan(0)
    } finally {
      await small.release()
    }
  })
})
