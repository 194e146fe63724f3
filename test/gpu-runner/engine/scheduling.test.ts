import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { admit } from '../../../gpu-runner/admission/admit.ts'
import type { EngineEvent } from '../../../gpu-runner/engine/engine-events.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { PREFILL_CHUNK_LEN } from '../../../gpu-runner/scheduler/chunks.ts'
import type { GenerateEvent, GenerateRequest } from '../../../src/protocol/runner.ts'
import type { Dataset } from '../../../src/protocol/runner-scoring.ts'
import {
  generate,
  openTestRunner,
  randomRotation,
  residentAdapter,
  tokensOf,
} from '../../fixtures/runner.ts'

const NUM_ROWS = 4
const JOB_SHARE = 0.3
const LONG = 'The river runs under seven old stone bridges while engineers count coins. '.repeat(50)

let runner: Runner
beforeAll(async () => {
  runner = await openTestRunner({ maxNumSeqs: NUM_ROWS, jobShare: JOB_SHARE })
})
afterAll(() => runner.release())

const ask = (content: string, extra: Partial<GenerateRequest> = {}): GenerateRequest => ({
  request_id: 'test',
  messages: [{ role: 'user', content }],
  arms: [{ adapters: [], scope: 'generated', seed: 1 }],
  sampling: { max_tokens: 8, temperature: 0, top_p: 1, stop: [] },
  ...extra,
})

/** Starts a request. @returns its events so far, and all of them at its end */
function start(wire: GenerateRequest) {
  const events: GenerateEvent[] = []
  const firstToken = Promise.withResolvers<undefined>()
  const ended = new Promise<GenerateEvent[]>((resolve) => {
    const request = admit(runner.context, wire, (event) => {
      events.push(event)
      if (event.event === 'token') firstToken.resolve(undefined)
      if (event.event === 'done' || event.event === 'error') resolve(events)
    })
    runner.engine.submit(request)
  })
  return { events, ended, firstToken: firstToken.promise }
}

/** The engine's steps during some work, in order. */
async function watch(work: () => Promise<unknown>): Promise<EngineEvent[]> {
  const seen: EngineEvent[] = []
  const stop = runner.engine.listen((event) => seen.push(event))
  await work()
  stop()
  return seen
}

describe('a long prompt', () => {
  test('delays running rows by one chunk per step, however long it is', async ({ expect }) => {
    const running = start(
      ask('Tell me a long story.', {
        sampling: { max_tokens: 60, temperature: 0, top_p: 1, stop: [] },
      }),
    )
    await running.firstToken
    const seen = await watch(() => generate(runner, ask(LONG)))
    await running.ended
    const numChunks = seen.filter(({ kind }) => kind === 'prefill_chunk').length
    expect(numChunks).toBeGreaterThan(5)
    let sinceStep = 0
    for (const event of seen) {
      if (event.kind === 'decode_step') sinceStep = 0
      if (event.kind !== 'prefill_chunk') continue
      sinceStep += 1
      expect(event.numTokens).toBeLessThanOrEqual(PREFILL_CHUNK_LEN)
      expect(sinceStep).toBeLessThanOrEqual(runner.engine.options.prefillChunksPerStep)
    }
  })

  test('of tier flex waits after a chunk for the prompts of others', async ({ expect }) => {
    const alone = tokensOf(await generate(runner, ask(LONG, { service_tier: 'flex' })))
    const long = start(ask(LONG, { service_tier: 'flex', echo: true }))
    while (!long.events.some(({ event }) => event === 'prompt')) await nextTurn()
    const seen = await watch(() => generate(runner, ask('Name a colour.')))
    const firstToken = seen.findIndex(({ kind }) => kind === 'first_token')
    const before = seen.slice(0, firstToken).filter(({ kind }) => kind === 'prefill_chunk')
    // The one that was under way, and its own; ten of the long prompt were left.
    expect(before.length).toBeLessThanOrEqual(2)
    expect(tokensOf(await long.ended)).toEqual(alone)
    expect(runner.engine.parkedKv).toEqual({ numBlocks: 0, sizeBytes: 0 })
  })
})

const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

describe('rows of tier flex', () => {
  test('are preempted, and their tokens are those of their lone runs', async ({ expect }) => {
    const digest = await residentAdapter(runner, randomRotation(runner, 5, 0.4))
    const wires = Array.from({ length: NUM_ROWS }, (_, i) =>
      ask(`Tell me story number ${i}.`, {
        service_tier: 'flex',
        arms: [
          {
            adapters: i % 2 === 0 ? [] : [{ digest, weight: 1 }],
            scope: 'generated',
            seed: 100 + i,
          },
        ],
        sampling: {
          max_tokens: 24,
          temperature: i < 2 ? 0.9 : 0,
          top_p: 0.95,
          stop: [],
          // Sampled tokens depend on the tokens before them.
          repetition_penalty: 1.2,
        },
      }),
    )
    const alone: number[][] = []
    for (const wire of wires) alone.push(tokensOf(await generate(runner, wire)))

    const { counters } = runner.engine.scheduler
    const before = counters.preempted
    const flex = wires.map(start)
    await Promise.all(flex.map(({ firstToken }) => firstToken))
    // Twice: rows are preempted, resumed, and preempted again.
    for (let round = 0; round < 2; round++) {
      const others = await Promise.all(
        ['Name a colour.', 'Name a river.', 'Name a town.'].map((content) =>
          generate(runner, ask(content, { service_tier: 'priority' })),
        ),
      )
      for (const events of others) expect(events.at(-1)).toMatchObject({ event: 'done' })
    }
    const together = await Promise.all(flex.map(({ ended }) => ended))
    expect(counters.preempted - before).toBeGreaterThanOrEqual(3)
    expect(together.map((events) => tokensOf(events))).toEqual(alone)
    expect(counters.resumed).toBe(counters.preempted)
    expect(runner.engine.load).toEqual({ running: 0, waiting: 0, parked: 0 })
    expect(runner.engine.parkedKv).toEqual({ numBlocks: 0, sizeBytes: 0 })
    expect(runner.context.slots.numLeased).toBe(0)
  })

  test('that are parked keep nothing once their caller disconnects', async ({ expect }) => {
    const arms = Array.from({ length: NUM_ROWS }, (_, seed) => ({
      adapters: [],
      scope: 'generated' as const,
      seed,
    }))
    const sampling = { max_tokens: 200, temperature: 1, top_p: 1, stop: [] }
    const wire = ask('Tell me a story.', { service_tier: 'flex', arms, sampling })
    const request = admit(runner.context, wire, () => undefined)
    runner.engine.submit(request)
    const other = start(ask('Tell me another.', { arms, sampling: { ...sampling, max_tokens: 8 } }))
    while (runner.engine.load.parked === 0) await nextTurn()
    runner.engine.abort(request)
    await other.ended
    expect(runner.engine.load.parked).toBe(0)
    expect(runner.engine.parkedKv.numBlocks).toBe(0)
  })
})

describe('a deadline', () => {
  const busy = ask('Tell me a story.', {
    arms: Array.from({ length: NUM_ROWS }, (_, seed) => ({
      adapters: [],
      scope: 'generated' as const,
      seed,
    })),
    sampling: { max_tokens: 100, temperature: 1, top_p: 1, stop: [] },
  })

  test('that passes in the queue or while running ends the request with an error', async ({
    expect,
  }) => {
    const before = runner.engine.counters.expired
    const ahead = start({ ...busy, timeout_ms: 700 })
    await ahead.firstToken
    const queued = await start(ask('Name a colour.', { timeout_ms: 50 })).ended
    const late = { event: 'error', arm: null, error: { code: 'deadline_exceeded' } }
    expect(queued).toMatchObject([late])
    const cut = await ahead.ended
    expect(tokensOf(cut).length).toBeGreaterThan(0)
    expect(cut.at(-1)).toMatchObject(late)
    expect(runner.engine.counters.expired).toBe(before + 2)
    expect(runner.engine.load).toEqual({ running: 0, waiting: 0, parked: 0 })
    // The rows are free for the next request.
    expect((await generate(runner, ask('Name a colour.'))).at(-1)).toMatchObject({ event: 'done' })
  })
})

describe('jobs beside live requests', () => {
  const dataset: Dataset = {
    labels: ['yes', 'no', 'perhaps so'],
    examples: Array.from({ length: 24 }, (_, i) => ({
      messages: [{ role: 'user', content: `Is ${i} an even number, or is it odd? Say yes or no.` }],
      label: i % 2,
    })),
  }

  test('take at most their share of the time, and all of it when alone', async ({ expect }) => {
    const bytes = new TextEncoder().encode(JSON.stringify(dataset))
    const digest = createHash('sha256').update(bytes).digest('hex')
    const tokenised = runner.datasets.put(digest, bytes)
    const score = (isAborted: () => boolean) =>
      runner.scorer.score(
        tokenised,
        {
          dataset: digest,
          scope: 'generated',
          num_candidates: 1,
          layers: [],
          has_log_scale: false,
        },
        new Float32Array(0),
        isAborted,
      )
    const alone = await score(() => false)

    const { turns, profile } = runner.executor
    const live = { isOver: false }
    let numCalls = 0
    const job = (async () => {
      while (!live.isOver) {
        expect(await score(() => false)).toEqual(alone)
        numCalls += 1
      }
    })()
    const startMs = performance.now()
    const jobMsBefore = profile.ms('jobs')
    const sampling = { max_tokens: 150, temperature: 1, top_p: 1, stop: [] }
    await Promise.all(
      [1, 2].map((seed) =>
        generate(
          runner,
          ask('Tell me a long story.', {
            arms: [{ adapters: [], scope: 'generated', seed }],
            sampling: { ...sampling, logit_bias: STAY_AWAKE },
          }),
        ),
      ),
    )
    const liveMs = performance.now() - startMs
    const jobMs = profile.ms('jobs') - jobMsBefore
    const measured = turns.measuredShare
    live.isOver = true
    await job
    console.log(
      `jobs took ${Math.round(jobMs)} of ${Math.round(liveMs)} ms beside live requests, ` +
        `${Math.round(100 * measured)} % of the last 10 s of live time; ${numCalls} calls`,
    )
    // The share does not prevent a step that is running at either end.
    const longestStepMs = 250
    expect(jobMs).toBeLessThanOrEqual(JOB_SHARE * liveMs + longestStepMs)
    expect(measured).toBeLessThanOrEqual(JOB_SHARE + longestStepMs / liveMs)
    expect(measured).toBeGreaterThan(0)
  })
})

/** The end of the turn is never drawn. */
const STAY_AWAKE: [number, number][] = [[2, -100]]
