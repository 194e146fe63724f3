/**
 * Requests that come and go leave nothing behind: most are aborted between any two of the engine's
 * steps, some after their first token. `ARCANA_TEST_CYCLES` sets another number than CI's.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, test } from 'vitest'
import { admit } from '../../../gpu-runner/admission/admit.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import type { GenerateRequest } from '../../../src/protocol/runner.ts'
import { openTestRunner, randomRotation, residentAdapter } from '../../fixtures/runner.ts'

const NUM_CYCLES = Number(process.env['ARCANA_TEST_CYCLES'] ?? 10_000)
const NUM_WARMUP_CYCLES = 500
/** Number of concurrent requests. */
const NUM_AT_ONCE = 24
const NUM_ADAPTERS = 40
/** One in this many requests runs until its first token. */
const ONE_IN = 40
const TIMEOUT_MS = 3_600_000
/** Heap that V8 keeps for itself; a leaked request with its KV would be far more after all cycles. */
const MAX_GROWTH_BYTES = 12 << 20
const SWEEP_MS = 100

let runner: Runner
const digests: string[] = []
beforeAll(async () => {
  runner = await openTestRunner({ maxNumSeqs: 4, numSlots: 32, prefixCacheBytes: 16 << 20 })
  for (let seed = 0; seed < NUM_ADAPTERS; seed++) {
    digests.push(await residentAdapter(runner, randomRotation(runner, seed, 0.3)))
  }
})
afterAll(() => runner.release())

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/**
 * What is held once nothing more can be given back. Buffers whose arrays are collected are freed on
 * another thread, and some only at the next collection, so one is not enough: it once left 30 MB.
 */
async function memory() {
  let least = Infinity
  for (;;) {
    collectGarbage()
    await new Promise((resolve) => setTimeout(resolve, SWEEP_MS))
    const { heapUsed, arrayBuffers, rss } = process.memoryUsage()
    if (arrayBuffers >= least) return { heapUsed, arrayBuffers, rss }
    least = arrayBuffers
  }
}

test(
  `${NUM_CYCLES} requests that come and go leave no row, slot, lease or memory`,
  { timeout: TIMEOUT_MS },
  async ({ expect }) => {
    const random = createRng(7)
    const below = (count: number) => Math.floor(random() * count)
    const { engine, context } = runner
    let numRefused = 0

    const cycle = (index: number): Promise<void> =>
      new Promise((resolve) => {
        const wire: GenerateRequest = {
          request_id: `cycle-${index}`,
          ...(random() < 0.5 ? { tenant: `tenant-${below(3)}` } : {}),
          service_tier: (['flex', 'default', 'priority'] as const)[below(3)]!,
          prompt: Array.from({ length: 2 + below(20) }, () => 500 + below(1000)),
          arms: Array.from({ length: 1 + below(3) }, (_, seed) => ({
            adapters: random() < 0.2 ? [] : [{ digest: digests[below(NUM_ADAPTERS)]!, weight: 1 }],
            scope: 'generated' as const,
            seed,
          })),
          sampling: {
            max_tokens: 1000,
            temperature: 1,
            top_p: 1,
            stop: [],
            logit_bias: [[2, -100]],
          },
        }
        const isHeard = below(ONE_IN) === 0
        let stop = (): void => undefined
        try {
          const request = admit(context, wire, ({ event }) => {
            if (event === 'token') engine.abort(request)
          })
          stop = engine.listen((event) => {
            if (event.kind !== 'ended' || event.request !== request) return
            stop()
            resolve()
          })
          engine.submit(request)
          if (!isHeard)
            setTimeout(() => {
              engine.abort(request)
            }, below(3))
        } catch {
          // Every slot is leased, so the request is refused; that must leave nothing either.
          numRefused += 1
          stop()
          setImmediate(resolve)
        }
      })
    const run = async (count: number): Promise<void> => {
      let next = 0
      const work = async (): Promise<void> => {
        while (next < count) await cycle(next++)
      }
      await Promise.all(Array.from({ length: NUM_AT_ONCE }, work))
    }

    await run(NUM_WARMUP_CYCLES)
    const before = await memory()
    const { aborted } = engine.counters
    await run(NUM_CYCLES)
    const after = await memory()
    const growth = {
      heap: after.heapUsed - before.heapUsed,
      arrayBuffers: after.arrayBuffers - before.arrayBuffers,
      rss: after.rss - before.rss,
    }
    console.log(
      JSON.stringify({
        cycles: NUM_CYCLES,
        aborted: engine.counters.aborted - aborted,
        refused: numRefused,
        preempted: engine.scheduler.counters.preempted,
        growth_bytes: growth,
      }),
    )
    expect(engine.load).toEqual({ running: 0, waiting: 0, parked: 0 })
    expect(engine.scheduler.numFree).toBe(engine.options.maxNumSeqs)
    expect(engine.parkedKv).toEqual({ numBlocks: 0, sizeBytes: 0 })
    expect(context.slots.numLeased).toBe(0)
    // An adapter that is leased outlives its own delete.
    for (const digest of digests) runner.adapters.delete(digest)
    expect(runner.adapters.digests).toEqual([])
    expect(growth.heap).toBeLessThan(MAX_GROWTH_BYTES)
    // The prefix cache may have grown by this since the warm-up.
    expect(growth.arrayBuffers).toBeLessThan(MAX_GROWTH_BYTES + engine.prefixCache.maxBytes)
  },
)
