/**
 * Poisson load on a real runner: requests arrive at a mean rate whether or not earlier ones are done.
 * `npm run bench -- load [seconds a rate, 20] [rates, 1,2,4,8]`
 */
import { startRunnerProcess, type RunnerProcess } from '../fixtures/runner-process.ts'
import { createRng } from '../../gpu-runner/sampling/rng.ts'
import { measure, pushAdapters, quantile, round, wireOf, type Sample } from './load/requests.ts'

const DEFAULT_SECONDS = 20
const DEFAULT_RATES = [1, 2, 4, 8]
export async function run(args: readonly string[]): Promise<void> {
  const seconds = Number(args[0] ?? DEFAULT_SECONDS)
  const rates = args[1]?.split(',').map(Number) ?? DEFAULT_RATES
  const runner = await startRunnerProcess({ ARCANA_LOG_LEVEL: 'warn' })
  const print = (figure: object) => {
    console.log(JSON.stringify(figure))
  }
  try {
    print({ figure: 'from start to ready', seconds: round(runner.readyMs / 1000) })
    print({ figure: 'memory once ready', ...runner.memory() })
    const digests = await pushAdapters(runner)
    const random = createRng(1)
    // Warms up kernels and shapes.
    await Promise.all(Array.from({ length: 16 }, () => measure(runner, wireOf(random, digests))))
    const rows: Record<string, object> = {}
    for (const rate of rates) {
      const samples = await load(runner, random, digests, rate, seconds)
      const firsts = samples.map(({ firstMs }) => firstMs)
      const gaps = samples.flatMap(({ gapsMs }) => gapsMs)
      const figures = {
        requests: samples.length,
        first_token_ms_p50: round(quantile(firsts, 0.5)),
        first_token_ms_p99: round(quantile(firsts, 0.99)),
        inter_token_ms_p50: round(quantile(gaps, 0.5)),
        inter_token_ms_p99: round(quantile(gaps, 0.99)),
        peak_rss_mib: runner.memory().peak_rss_mib,
      }
      rows[`${rate} requests/s`] = figures
      print({ figure: `Poisson load, ${rate} requests/s`, seconds, ...figures })
    }
    console.table(rows)
  } finally {
    await runner.stop()
  }
}

async function load(
  runner: RunnerProcess,
  random: () => number,
  digests: readonly string[],
  rate: number,
  seconds: number,
): Promise<Sample[]> {
  const running: Promise<Sample>[] = []
  const endMs = performance.now() + seconds * 1000
  while (performance.now() < endMs) {
    running.push(measure(runner, wireOf(random, digests)))
    const waitMs = (-Math.log(1 - random()) / rate) * 1000
    await new Promise((resolve) => setTimeout(resolve, waitMs))
  }
  return Promise.all(running)
}
