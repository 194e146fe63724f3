/**
 * Random schedules of arrivals, departures, cache hits and rows set aside: each request's tokens are
 * those of its lone run. CI runs NUM_SCHEDULES of them; `ARCANA_TEST_SCHEDULES=500` runs as many, by
 * hand (docs/decisions/0008-scheduling.md has the figures).
 */
import { afterAll, beforeAll, test } from 'vitest'
import { admit } from '../../../gpu-runner/admission/admit.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import type { EngineRequest } from '../../../gpu-runner/scheduler/request.ts'
import type { GenerateEvent, GenerateRequest } from '../../../src/protocol/runner.ts'
import { generate, openTestRunner, randomRotation, residentAdapter } from '../../fixtures/runner.ts'

const NUM_SCHEDULES = Number(process.env['ARCANA_TEST_SCHEDULES'] ?? 30)
const SEED = Number(process.env['ARCANA_TEST_SEED'] ?? 20261122)
const NUM_WISHES = 32
/** Few rows, so that requests wait and are preempted. */
const NUM_ROWS = 4
const TIMEOUT_MS = 3_600_000

let runner: Runner
const adapters: { digest: string; scope: 'generated' | 'all' }[] = []
beforeAll(async () => {
  // Small enough that it evicts prompts at times.
  runner = await openTestRunner({ maxNumSeqs: NUM_ROWS, prefixCacheBytes: 24 << 20, jobShare: 1 })
  for (let seed = 0; seed < 3; seed++) {
    const scope = seed === 2 ? 'all' : 'generated'
    const digest = await residentAdapter(runner, randomRotation(runner, seed, 0.4), scope)
    adapters.push({ digest, scope })
  }
})
afterAll(() => runner.release())

const SENTENCE = 'The river runs under seven old stone bridges while engineers count coins. '

/** The possible requests; each also runs alone once. */
function createWish(random: () => number, id: number): GenerateRequest {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
  const numArms = pick([1, 1, 1, 2, 3])
  // One in eight crosses chunk boundaries. Prompts begin alike, so that one's chunks serve another.
  const numSentences = random() < 0.125 ? 10 + Math.floor(random() * 8) : pick([0, 1, 2])
  return {
    request_id: `wish-${id}`,
    messages: [
      {
        role: 'user',
        content: `${SENTENCE.repeat(numSentences)}Say ${pick(['one', 'two', 'three'])}.`,
      },
    ],
    arms: Array.from({ length: numArms }, () => {
      const { digest, scope } = pick(adapters)
      const isBase = random() < 0.3
      return {
        adapters: isBase ? [] : [{ digest, weight: pick([0.5, 1, -1]) }],
        scope,
        seed: Math.floor(random() * 1e6),
      }
    }),
    sampling: {
      max_tokens: 1 + Math.floor(random() * 9),
      temperature: pick([0, 0.9]),
      top_p: pick([1, 0.9]),
      stop: [],
      ...(random() < 0.3 ? { repetition_penalty: 1.3 } : {}),
    },
    ...(random() < 0.15 ? { choice: { labels: ['one', 'two', 'two hundred'] } } : {}),
  }
}

/** Everything said, arm by arm; whoever leaves has a beginning of it. */
const saidBy = (events: readonly GenerateEvent[], arm: number): number[] =>
  events.flatMap((event) => (event.event === 'token' && event.arm === arm ? event.ids : []))

type Visit = {
  readonly wish: number
  readonly events: GenerateEvent[]
  request: EngineRequest
  isOver: boolean
}

test(
  `in ${NUM_SCHEDULES} random schedules each request’s tokens are those of its lone run`,
  { timeout: TIMEOUT_MS },
  async ({ expect }) => {
    const random = createRng(SEED)
    const wishes = Array.from({ length: NUM_WISHES }, (_, id) => {
      const wish = createWish(random, id)
      // A choice of labels refuses the parameters of free text.
      if (wish.choice) delete wish.sampling.repetition_penalty
      return wish
    })
    const alone: GenerateEvent[][] = []
    for (const wish of wishes) alone.push(await generate(runner, wish))

    const { engine, context } = runner
    const { preempted } = engine.scheduler.counters
    const { hits } = engine.prefixCache.counters
    const counts = { requests: 0, whole: 0, left: 0, different: 0, tokens: 0 }
    const differing: string[] = []
    for (let schedule = 0; schedule < NUM_SCHEDULES; schedule++) {
      const visits: Visit[] = []
      const numVisits = 3 + Math.floor(random() * 6)
      // Arrivals and departures by the engine's own steps, not by time.
      const arrivals = Array.from({ length: numVisits }, () => Math.floor(random() * 14)).sort(
        (a, b) => a - b,
      )
      const departures: { readonly at: number; readonly visit: number }[] = []
      for (let visit = 0; visit < numVisits; visit++) {
        if (random() < 0.2)
          departures.push({ at: arrivals[visit]! + Math.floor(random() * 8), visit })
      }
      const arrive = (): void => {
        const wish = Math.floor(random() * NUM_WISHES)
        const tier = (['flex', 'flex', 'default', 'priority'] as const)[Math.floor(random() * 4)]!
        const events: GenerateEvent[] = []
        const visit: Visit = {
          wish,
          events,
          isOver: false,
          request: null as unknown as EngineRequest,
        }
        visit.request = admit(
          context,
          {
            ...wishes[wish]!,
            service_tier: tier,
            ...(random() < 0.7 ? { tenant: `tenant-${Math.floor(random() * 2)}` } : {}),
          },
          (event) => {
            events.push(event)
            if (event.event === 'done' || event.event === 'error') visit.isOver = true
          },
        )
        visits.push(visit)
        engine.submit(visit.request)
      }
      let step = 0
      const act = (): void => {
        while (visits.length < numVisits && arrivals[visits.length]! <= step) arrive()
        for (const { at, visit } of departures) {
          if (at === step && visits[visit]) engine.abort(visits[visit].request)
        }
        step += 1
      }
      const stop = engine.listen(({ kind }) => {
        if (kind === 'decode_step' || kind === 'prefill_chunk') act()
      })
      while (visits.length < numVisits || engine.scheduler.hasWork) {
        // Time passes even if the engine is idle.
        if (!engine.scheduler.hasWork) act()
        await new Promise((resolve) => setImmediate(resolve))
      }
      stop()
      for (const { wish, events, request, isOver } of visits) {
        counts.requests += 1
        counts[isOver ? 'whole' : 'left'] += 1
        if (!isOver) expect(request.aborted).toBe(true)
        for (const arm of wishes[wish]!.arms.keys()) {
          const expected = saidBy(alone[wish]!, arm)
          const said = saidBy(events, arm)
          counts.tokens += said.length
          const isSame = said.every((id, i) => id === expected[i])
          if (isSame && (!isOver || said.length === expected.length)) continue
          counts.different += 1
          differing.push(`schedule ${schedule}, wish ${wish}, arm ${arm}`)
        }
      }
      // It leaves nothing behind.
      expect(engine.load).toEqual({ running: 0, waiting: 0, parked: 0 })
      expect(engine.parkedKv.numBlocks).toBe(0)
      expect(context.slots.numLeased).toBe(0)
    }
    const numPreempted = engine.scheduler.counters.preempted - preempted
    const numHits = engine.prefixCache.counters.hits - hits
    console.log(
      JSON.stringify({
        schedules: NUM_SCHEDULES,
        ...counts,
        preempted: numPreempted,
        cache_hits: numHits,
      }),
    )
    // Kernels are bit-equal in every company, so not even a tie may fall otherwise.
    expect(differing).toEqual([])
    // The schedules contained the cases under test.
    expect(numPreempted).toBeGreaterThan(NUM_SCHEDULES / 4)
    expect(numHits).toBeGreaterThan(NUM_SCHEDULES / 4)
    expect(counts.left).toBeGreaterThan(NUM_SCHEDULES / 10)
  },
)
