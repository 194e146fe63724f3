import fc from 'fast-check'
import { describe, test } from 'vitest'
import { RowStore } from '../../../gpu-runner/kv-cache/row-store.ts'
import type { EngineRequest, Prefill, Sequence } from '../../../gpu-runner/scheduler/request.ts'
import { Scheduler } from '../../../gpu-runner/scheduler/scheduler.ts'
import type { ServiceTier } from '../../../src/protocol/runner.ts'

const MAX_NUM_SEQS = 4
const MAX_CONTEXT = 300
const SHAPE = { numLayers: 1, numKvHeads: 1, headDim: 2 }
const TIERS: readonly ServiceTier[] = ['priority', 'default', 'flex']

type Wish = {
  readonly tier: ServiceTier
  /** Arms of each prompt. */
  readonly groups: readonly number[]
  readonly promptLen: number
  readonly numTokens: number
  readonly timeoutSteps: number
}

/** A random walk over the real scheduler and the real rows, with numbers instead of a model. */
class Walk {
  readonly scheduler = new Scheduler({ maxNumSeqs: MAX_NUM_SEQS, maxWaiting: 8 })
  readonly store = new RowStore(SHAPE, MAX_NUM_SEQS, MAX_CONTEXT)
  readonly requests: EngineRequest[] = []
  readonly ended = new Map<EngineRequest, string>()
  readonly numGenerated = new Map<Sequence, number>()
  readonly faults: string[] = []
  #names = new Map<unknown, number>()
  now = 0

  submit({ tier, groups, promptLen, numTokens, timeoutSteps }: Wish): EngineRequest | null {
    if (!this.scheduler.hasRoom(tier)) return null
    const request = {
      id: `r${this.requests.length}`,
      tier,
      promptIds: new Array<number>(promptLen + 1).fill(0),
      emit: () => undefined,
      release: () => undefined,
      admittedAtMs: this.now,
      deadlineAtMs: this.now + timeoutSteps,
      aborted: false,
      numUnfinished: groups.reduce((sum, arms) => sum + arms, 0),
      numPrefills: 0,
    } as unknown as EngineRequest
    const made = groups.map((numArms) => ({
      sequences: Array.from({ length: numArms }, (_, arm) => ({
        request,
        arm,
        decoding: { maxOffsets: numTokens },
        numComputedTokens: 0,
      })),
    }))
    Object.assign(request, { groups: made })
    this.requests.push(request)
    this.scheduler.submit(request)
    return request
  }

  /** One turn of the engine's loop. */
  turn(): void {
    this.now += 1
    for (const { request, reason } of this.scheduler.departures(this.now)) {
      this.store.apply(this.scheduler.drop(request))
      this.store.prune((entry) => entry.request === request)
      this.#end(request, reason)
    }
    this.store.apply(this.scheduler.fill())
    this.validate()
    const finished: Sequence[] = []
    for (const [row, sequence] of [...this.scheduler.running].entries()) {
      this.store.rows.writeBlock(row, sequence.numComputedTokens, this.#token(sequence))
      sequence.numComputedTokens += 1
      const numTokens = (this.numGenerated.get(sequence) ?? 0) + 1
      this.numGenerated.set(sequence, numTokens)
      if (numTokens === sequence.decoding.maxOffsets) finished.push(sequence)
    }
    for (const sequence of finished.reverse()) {
      this.store.apply(this.scheduler.finish(sequence))
      this.#finish(sequence)
    }
    const prefill = this.scheduler.prefills[0]
    if (prefill) this.#prefillChunk(prefill)
    this.validate()
  }

  #prefillChunk(prefill: Prefill): void {
    this.store.stage(prefill)
    prefill.numDone ??= 0
    const chunk = prefill.chunks[prefill.numDone]
    for (let at = chunk?.[0] ?? 0; at < (chunk?.[1] ?? 0); at++) {
      this.store.staging.writeBlock(0, at, this.#token(prefill.group))
    }
    if (chunk) prefill.numDone += 1
    if (prefill.numDone < prefill.chunks.length) return
    for (const { sequence, row } of this.scheduler.finishPrefill(prefill)) {
      this.store.place(row, sequence, prefill.request.promptIds.length - 1)
    }
    this.store.unstage(prefill)
    for (const sequence of prefill.group.sequences) {
      if (sequence.decoding.maxOffsets === 0) this.#finish(sequence)
    }
  }

  #finish({ request }: Sequence): void {
    request.numUnfinished -= 1
    if (request.numUnfinished === 0) this.#end(request, 'finished')
  }

  #end(request: EngineRequest, how: string): void {
    if (this.ended.has(request)) this.faults.push(`${request.id} ended twice`)
    this.ended.set(request, how)
  }

  /** The expected KV of a prompt, or of a row's own tokens. */
  #name(of: unknown): number {
    const name = this.#names.get(of) ?? this.#names.size + 1
    this.#names.set(of, name)
    return name
  }
  #token(of: unknown) {
    const data = new Float32Array(4).fill(this.#name(of))
    return { numTokens: 1, sizeBytes: data.byteLength, data }
  }

  /** Invariants before and after every turn. */
  validate(): void {
    const { scheduler, faults } = this
    const { running, prefills, waiting } = scheduler
    if (scheduler.numFree < 0) faults.push('more rows than there are')
    if (scheduler.numParked > MAX_NUM_SEQS) faults.push('more set aside than there are rows')
    if (this.store.numSaved > scheduler.numParked + prefills.length) faults.push('KV of nobody')
    const seated = [...running, ...prefills.flatMap(({ group }) => group.sequences)]
    if (new Set(seated).size !== seated.length) faults.push('a sequence is in two places')
    for (const request of this.requests) {
      if (scheduler.requests().has(request) === this.ended.has(request)) {
        faults.push(`${request.id} is lost, or still there`)
      }
    }
    for (const [row, sequence] of running.entries()) {
      const group = sequence.request.groups.find(({ sequences }) => sequences.includes(sequence))
      const promptLen = sequence.request.promptIds.length - 1
      const { data } = this.store.rows.readBlock(row, 0, sequence.numComputedTokens)
      const isOwn = data.every((value, i) => {
        const position = Math.floor(i / SHAPE.headDim) % sequence.numComputedTokens
        return value === this.#name(position < promptLen ? group : sequence)
      })
      if (!isOwn) faults.push(`row ${row} holds another's tokens`)
    }
    for (const list of [waiting, prefills.map(({ request }) => request)]) {
      const ranks = list.map(({ tier }) => TIERS.indexOf(tier))
      if (ranks.some((rank, i) => rank < (ranks[i - 1] ?? 0))) faults.push('out of order')
    }
  }
}

const wish = fc.record({
  tier: fc.constantFrom<ServiceTier>('flex', 'flex', 'default', 'priority'),
  groups: fc.constantFrom([1], [1], [2], [4], [1, 1], [2, 1]),
  promptLen: fc.constantFrom(0, 5, 128, 200, 260),
  numTokens: fc.integer({ min: 0, max: 6 }),
  timeoutSteps: fc.constantFrom(3, 12, 1e6, 1e6, 1e6),
})
const action = fc.oneof(
  { weight: 3, arbitrary: wish.map((value) => ({ kind: 'submit' as const, value })) },
  { weight: 1, arbitrary: fc.nat(20).map((value) => ({ kind: 'abort' as const, value })) },
  {
    weight: 4,
    arbitrary: fc.integer({ min: 1, max: 4 }).map((value) => ({ kind: 'turn' as const, value })),
  },
)

/** More turns than all of a walk's work needs. */
const MANY_TURNS = 2_000

describe('the scheduler', () => {
  test('rows always keep their own KV, and every request ends once', ({ expect }) => {
    let numPreempted = 0
    let numResumed = 0
    fc.assert(
      fc.property(fc.array(action, { minLength: 20, maxLength: 80 }), (actions) => {
        const walk = new Walk()
        for (const { kind, value } of actions) {
          if (kind === 'submit') walk.submit(value)
          else if (kind === 'turn') for (let i = 0; i < value; i++) walk.turn()
          else if (walk.requests[value] && !walk.ended.has(walk.requests[value])) {
            walk.requests[value].aborted = true
          }
        }
        for (let i = 0; i < MANY_TURNS && walk.scheduler.hasWork; i++) walk.turn()
        expect(walk.faults).toEqual([])
        expect(walk.scheduler.hasWork).toBe(false)
        expect(walk.scheduler.numFree).toBe(MAX_NUM_SEQS)
        expect(walk.store.numSaved).toBe(0)
        for (const request of walk.requests) {
          if (walk.ended.get(request) !== 'finished') continue
          for (const sequence of request.groups.flatMap(({ sequences }) => sequences)) {
            expect(walk.numGenerated.get(sequence) ?? 0).toBe(sequence.decoding.maxOffsets)
          }
        }
        numPreempted += walk.scheduler.counters.preempted
        numResumed += walk.scheduler.counters.resumed
      }),
      { numRuns: 300 },
    )
    // The walks contained the cases under test.
    expect(numPreempted).toBeGreaterThan(100)
    expect(numResumed).toBeGreaterThan(50)
  })

  const ask = (tier: ServiceTier, extra: Partial<Wish> = {}): Wish => ({
    tier,
    groups: [1],
    promptLen: 5,
    numTokens: 1000,
    timeoutSteps: Infinity,
    ...extra,
  })
  const idsOf = (list: readonly { readonly request: EngineRequest }[]) =>
    list.map(({ request }) => request.id)

  test('tiers go in order, and equals in order of arrival', ({ expect }) => {
    const walk = new Walk()
    for (let i = 0; i < MAX_NUM_SEQS; i++) walk.submit(ask('default'))
    for (let i = 0; i <= MAX_NUM_SEQS; i++) walk.turn()
    for (const tier of ['flex', 'flex', 'default', 'priority', 'default'] as const) {
      walk.submit(ask(tier))
    }
    walk.turn()
    expect(walk.scheduler.waiting.map(({ id }) => id)).toEqual(['r7', 'r6', 'r8', 'r4', 'r5'])
    expect(walk.scheduler.counters.preempted).toBe(0)
  })

  test('rows of flex are preempted, the newest first, and resume before new requests', ({
    expect,
  }) => {
    const walk = new Walk()
    for (let i = 0; i < MAX_NUM_SEQS; i++) walk.submit(ask('flex'))
    for (let i = 0; i <= MAX_NUM_SEQS; i++) walk.turn()
    expect(idsOf(walk.scheduler.running)).toEqual(['r0', 'r1', 'r2', 'r3'])
    walk.submit(ask('default', { groups: [2], numTokens: 3 }))
    walk.submit(ask('flex'))
    walk.turn()
    expect(idsOf(walk.scheduler.running)).toEqual(['r0', 'r1', 'r4', 'r4'])
    expect(walk.scheduler.numParked).toBe(2)
    for (let i = 0; i < 4; i++) walk.turn()
    expect(idsOf(walk.scheduler.running).sort()).toEqual(['r0', 'r1', 'r2', 'r3'])
    expect(walk.scheduler.waiting.map(({ id }) => id)).toEqual(['r5'])
    expect(walk.faults).toEqual([])
  })

  test('no row is preempted in vain, or for flex', ({ expect }) => {
    const walk = new Walk()
    walk.submit(ask('default', { groups: [2] }))
    walk.submit(ask('flex', { groups: [2] }))
    for (let i = 0; i < 3; i++) walk.turn()
    // Four rows would not be free even without the flex ones.
    walk.submit(ask('priority', { groups: [4] }))
    walk.submit(ask('flex'))
    walk.turn()
    expect(walk.scheduler.counters.preempted).toBe(0)
    expect(walk.scheduler.running).toHaveLength(4)
  })

  test('a prompt of a better tier is computed first, and the other one then resumes', ({
    expect,
  }) => {
    const walk = new Walk()
    walk.submit(ask('flex', { promptLen: 260 }))
    walk.turn()
    walk.submit(ask('default', { promptLen: 100, numTokens: 2 }))
    walk.turn()
    expect(idsOf(walk.scheduler.running)).toEqual(['r1'])
    expect(walk.scheduler.prefills[0]).toMatchObject({ request: { id: 'r0' }, numDone: 1 })
    walk.turn()
    walk.turn()
    expect(walk.faults).toEqual([])
    expect(idsOf(walk.scheduler.running)).toEqual(['r0'])
  })

  test('flex may fill half of the queue', ({ expect }) => {
    const walk = new Walk()
    for (let i = 0; i < MAX_NUM_SEQS; i++) walk.submit(ask('default'))
    for (let i = 0; i <= MAX_NUM_SEQS; i++) walk.turn()
    const taken = (tier: ServiceTier) => walk.submit(ask(tier)) !== null
    expect(Array.from({ length: 6 }, () => taken('flex'))).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
    ])
    expect(Array.from({ length: 6 }, () => taken('default')).filter(Boolean)).toHaveLength(4)
    expect(taken('priority')).toBe(false)
  })
})
