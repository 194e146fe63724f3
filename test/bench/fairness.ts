/**
 * Measures how much one tenant's flood delays another's requests on a real runner. One tenant keeps
 * many requests in flight, the other asks once a second. Prints the second one's time to first
 * token alone, beside the flood, and if both are the same tenant, as before tenants took turns.
 * `npm run bench -- fairness [seconds each, 30] [requests of the flood, 200]`
 */
import { createRng } from '../../gpu-runner/sampling/rng.ts'
import type { GenerateRequest } from '../../src/protocol/runner.ts'
import { startRunnerProcess, type RunnerProcess } from '../fixtures/runner-process.ts'
import { measure, pushAdapters, quantile, round, wireOf, type Sample } from './load/requests.ts'

const DEFAULT_SECONDS = 30
const DEFAULT_FLOOD = 200
const INTERVAL_MS = 1000

export async function run(args: readonly string[]): Promise<void> {
  const seconds = Number(args[0] ?? DEFAULT_SECONDS)
  const numFlood = Number(args[1] ?? DEFAULT_FLOOD)
  const runner = await startRunnerProcess({ ARCANA_LOG_LEVEL: 'warn' })
  try {
    const digests = await pushAdapters(runner)
    const random = createRng(1)
    const next = (tenant: string): GenerateRequest => ({ ...wireOf(random, digests), tenant })
    // Kernels and shapes are made once.
    await Promise.all(Array.from({ length: 16 }, () => measure(runner, next('warm'))))
    const alone = await sampleEverySecond(runner, () => next('quiet'), seconds)
    const beside = await besideFlood(runner, numFlood, next, () =>
      sampleEverySecond(runner, () => next('quiet'), seconds),
    )
    // A tenant's queue has room for so many together.
    const asOne = await besideFlood(runner, numFlood - seconds, next, () =>
      sampleEverySecond(runner, () => next('flood'), seconds),
    )
    const p95 = (samples: readonly Sample[]) => quantile(samples.map(firstOf), 0.95)
    const rows = { alone, 'beside a flood': beside, 'as one tenant': asOne }
    console.table(
      Object.fromEntries(
        Object.entries(rows).map(([name, samples]) => [
          name,
          {
            requests: samples.length,
            first_token_ms_p50: round(quantile(samples.map(firstOf), 0.5)),
            first_token_ms_p95: round(p95(samples)),
            p95_of_alone: round(p95(samples) / p95(alone)),
          },
        ]),
      ),
    )
  } finally {
    await runner.stop()
  }
}

const firstOf = ({ firstMs }: Sample): number => firstMs

async function sampleEverySecond(
  runner: RunnerProcess,
  next: () => GenerateRequest,
  seconds: number,
): Promise<Sample[]> {
  const running: Promise<Sample>[] = []
  for (let i = 0; i < seconds; i++) {
    running.push(measure(runner, next()))
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS))
  }
  return Promise.all(running)
}

/** Keeps a number of requests in flight while `work` runs, then lets them end. */
async function besideFlood<T>(
  runner: RunnerProcess,
  numFlood: number,
  next: (tenant: string) => GenerateRequest,
  work: () => Promise<T>,
): Promise<T> {
  let isOver = false
  const controller = new AbortController()
  const keepAsking = async (): Promise<void> => {
    while (!isOver) await measure(runner, next('flood'), controller.signal).catch(() => undefined)
  }
  const flood = Array.from({ length: numFlood }, keepAsking)
  // The flood has filled the rows and the queue.
  await new Promise((resolve) => setTimeout(resolve, 5 * INTERVAL_MS))
  try {
    return await work()
  } finally {
    isOver = true
    controller.abort()
    await Promise.all(flood)
  }
}
