import { describe, it } from 'vitest'
import { createRng } from '../../../adapters/optimise/rng.ts'
import {
  chooseRunner,
  type RunnerSnapshot,
  type RunnerWish,
} from '../../../src/dispatch/choose-runner.ts'
import { RunnerDouble } from '../runner-double.ts'

const NUM_RUNNERS = 8
const MAX_ROWS = 16
/** Ticks of 50 ms; a snapshot is half a second old at most, as in the pool. */
const NUM_TICKS = 6_000
const SNAPSHOT_TICKS = 10
const MEAN_SERVICE_TICKS = 40
/** Offered load, of all rows. */
const LOAD = 0.7
const NUM_ADAPTERS = 400
/** Adapters that one runner keeps: all eight together could just hold them all once. */
const RESIDENT = 60
const NUM_HEADS = 400
const HEADS_KEPT = 60
/** Share of requests for the base model alone. */
const BASE_SHARE = 0.4
/** Adapters past this rank are the long tail; they get about a third of the requests. */
const TAIL_FROM = 50

type Wish = RunnerWish & { readonly prefix: string }
type Rule = (snapshots: readonly RunnerSnapshot[], wish: Wish, random: () => number) => string
type Request = { readonly arrivedAt: number; readonly ticks: number; readonly isTail: boolean }

/** A queue of requests before rows, with what it keeps: the last used, the newest at the end. */
class SimulatedRunner {
  readonly url: string
  readonly adapters = new Set<string>()
  readonly heads = new Set<string>()
  readonly waiting: Request[] = []
  running: number[] = []
  snapshot: RunnerSnapshot
  loadSum = 0

  constructor(url: string) {
    this.url = url
    this.snapshot = this.measure()
  }

  measure(): RunnerSnapshot {
    const status = new RunnerDouble().status()
    return {
      url: this.url,
      isAdmitting: true,
      numBegun: 0,
      status: {
        ...status,
        limits: { ...status.limits, max_rows: MAX_ROWS },
        load: { running: this.running.length, waiting: this.waiting.length, parked: 0 },
        resident_adapters: [...this.adapters],
      },
    }
  }
}

/** Keeps a value as the last used. @returns whether it was kept before */
function touch(kept: Set<string>, value: string, limit: number): boolean {
  const isHit = kept.delete(value)
  kept.add(value)
  if (kept.size > limit) kept.delete([...kept][0]!)
  return isHit
}

/** A draw of ranks by Zipf's law with exponent 1. */
function zipf(size: number): (uniform: number) => number {
  const sums: number[] = []
  for (let rank = 0; rank < size; rank++) sums.push((sums[rank - 1] ?? 0) + 1 / (rank + 1))
  return (uniform) => sums.findIndex((sum) => sum >= uniform * sums[size - 1]!)
}

function simulate(rule: Rule) {
  // The arrivals have a source of chance of their own, so they are the same under each rule.
  const arrivals = createRng(1)
  const choices = createRng(2)
  const random = () => choices.uniform()
  const runners = Array.from({ length: NUM_RUNNERS }, (_, i) => new SimulatedRunner(`r${i}`))
  const adapterOf = zipf(NUM_ADAPTERS)
  const headOf = zipf(NUM_HEADS)
  const perTick = (LOAD * NUM_RUNNERS * MAX_ROWS) / MEAN_SERVICE_TICKS
  const counts = {
    base: 0,
    baseHeadHits: 0,
    adapted: 0,
    residentHits: 0,
    headHits: 0,
    tail: 0,
    tailHits: 0,
  }
  const waits = { hot: [] as number[], tail: [] as number[] }
  for (let tick = 0; tick < NUM_TICKS; tick++) {
    for (const [i, runner] of runners.entries()) {
      runner.running = runner.running.filter((endsAt) => endsAt > tick)
      while (runner.running.length < MAX_ROWS && runner.waiting.length > 0) {
        const { arrivedAt, ticks, isTail } = runner.waiting.shift()!
        runner.running.push(tick + ticks)
        waits[isTail ? 'tail' : 'hot'].push(tick - arrivedAt)
      }
      runner.loadSum += runner.running.length + runner.waiting.length
      if ((tick + i) % SNAPSHOT_TICKS === 0) runner.snapshot = runner.measure()
    }
    for (let due = perTick; due > 0 && arrivals.uniform() < due; due -= 1) {
      const rank = arrivals.uniform() < BASE_SHARE ? null : adapterOf(arrivals.uniform())
      const adapters = rank === null ? [] : [`adapter ${rank}`]
      const prefix = `head ${headOf(arrivals.uniform())}`
      const ticks = Math.ceil(-Math.log(1 - arrivals.uniform()) * MEAN_SERVICE_TICKS)
      const status = new RunnerDouble().status()
      const wish: Wish = {
        kind: 'generate',
        model: status.model.slug,
        modelDigest: null,
        adapters,
        prefix,
      }
      const url = rule(
        runners.map(({ snapshot }) => snapshot),
        wish,
        random,
      )
      const runner = runners.find((candidate) => candidate.url === url)!
      const isTail = rank !== null && rank >= TAIL_FROM
      runner.waiting.push({ arrivedAt: tick, ticks, isTail })
      runner.snapshot = { ...runner.snapshot, numBegun: (runner.snapshot.numBegun ?? 0) + 1 }
      const isHeadKept = touch(runner.heads, prefix, HEADS_KEPT)
      if (rank === null) {
        counts.base += 1
        counts.baseHeadHits += Number(isHeadKept)
      }
      for (const adapter of adapters) {
        const isResident = touch(runner.adapters, adapter, RESIDENT)
        counts.adapted += 1
        counts.residentHits += Number(isResident)
        counts.headHits += Number(isHeadKept)
        counts.tail += Number(isTail)
        counts.tailHits += Number(isTail && isResident)
      }
    }
  }
  const loads = runners.map(({ loadSum }) => loadSum)
  const mean = (values: readonly number[]) =>
    values.reduce((sum, value) => sum + value, 0) / values.length
  return {
    maxOverMean: Math.max(...loads) / mean(loads),
    residency: counts.residentHits / counts.adapted,
    prefixesOfBase: counts.baseHeadHits / counts.base,
    prefixesOfAdapted: counts.headHits / counts.adapted,
    tailResidency: counts.tailHits / counts.tail,
    hottestOn: runners.filter(({ adapters }) => adapters.has('adapter 0')).length,
    hotWait: mean(waits.hot),
    tailWait: mean(waits.tail),
  }
}

/** The rule before this one: the fewest adapters missing, then the lowest load, then the order. */
const residencyFirst: Rule = (snapshots, { adapters }) =>
  snapshots
    .map(({ url, status }) => ({
      url,
      missing: adapters.filter((digest) => !status!.resident_adapters.includes(digest)).length,
      ahead: status!.load.running + status!.load.waiting,
    }))
    .sort((a, b) => a.missing - b.missing || a.ahead - b.ahead)[0]!.url
const byChance: Rule = (snapshots, _wish, random) =>
  snapshots[Math.floor(random() * snapshots.length)]!.url
const byCost: Rule = (snapshots, wish, random) => {
  const choice = chooseRunner(snapshots, wish, random)
  if (choice.kind !== 'ranked') throw new Error(choice.kind)
  return choice.runners[0]!.url
}

describe('the choice of a runner, over five minutes of eight runners at 70% load', () => {
  const cost = simulate(byCost)
  const chance = simulate(byChance)
  const before = simulate(residencyFirst)

  it('keeps every runner near the mean load', ({ expect }) => {
    expect(cost.maxOverMean).toBeLessThan(1.15)
    expect(before.maxOverMean).toBeGreaterThan(2)
  })
  it('finds adapters in memory as often as residency before all, far more than chance', ({
    expect,
  }) => {
    expect(cost.residency).toBeGreaterThan(before.residency - 0.02)
    expect(cost.residency).toBeGreaterThan(chance.residency + 0.3)
  })
  it('finds computed prompts of the base model more often than either other rule', ({ expect }) => {
    expect(cost.prefixesOfBase).toBeGreaterThan(chance.prefixesOfBase + 0.05)
    expect(cost.prefixesOfBase).toBeGreaterThan(before.prefixesOfBase + 0.05)
  })
  it('holds the adapter in most demand on several runners', ({ expect }) => {
    expect(cost.hottestOn).toBeGreaterThanOrEqual(2)
  })
  it('serves the long tail like the adapters in demand', ({ expect }) => {
    expect(cost.tailResidency).toBeGreaterThan(3 * chance.tailResidency)
    expect(cost.tailWait).toBeLessThan(cost.hotWait + 1)
  })
})
