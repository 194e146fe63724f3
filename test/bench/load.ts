/**
 * Poisson load on a real runner: requests arrive at a mean rate whether or not earlier ones are done.
 * `npm run bench -- load [seconds a rate, 20] [rates, 1,2,4,8]`
 */
import { randomRotationBytes } from '../fixtures/adapter-bytes.ts'
import { startRunnerProcess, type RunnerProcess } from '../fixtures/runner-process.ts'
import { createRng } from '../../gpu-runner/sampling/rng.ts'
import type { GenerateRequest } from '../../src/protocol/runner.ts'

const DEFAULT_SECONDS = 20
const DEFAULT_RATES = [1, 2, 4, 8]
const MAX_TOKENS = 32
const NUM_ADAPTERS = 16
const WORDS = 'river stone bridge engineer coin market rain copper town sea letter garden'.split(
  ' ',
)

type Sample = { readonly firstMs: number; readonly gapsMs: readonly number[] }

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

async function pushAdapters(runner: RunnerProcess): Promise<string[]> {
  const digests: string[] = []
  for (let seed = 0; seed < NUM_ADAPTERS; seed++) {
    const { digest, bytes } = await randomRotationBytes(seed)
    const { ok } = await runner.call(`/v1/adapters/${digest}`, { method: 'PUT', body: bytes })
    if (!ok) throw new Error(`adapter ${seed} was refused`)
    digests.push(digest)
  }
  return digests
}

/** A prompt of 30 to 300 tokens or so, short ones the more often, under a random adapter. */
function wireOf(random: () => number, digests: readonly string[]): GenerateRequest {
  const numWords = 5 + Math.floor(250 * random() ** 2)
  const word = () => WORDS[Math.floor(random() * WORDS.length)]!
  return {
    request_id: 'load',
    messages: [{ role: 'user', content: Array.from({ length: numWords }, word).join(' ') }],
    arms: [
      {
        adapters: [{ digest: digests[Math.floor(random() * digests.length)]!, weight: 1 }],
        scope: 'generated',
        seed: Math.floor(random() * 1e6),
      },
    ],
    sampling: {
      max_tokens: MAX_TOKENS,
      temperature: 1,
      top_p: 1,
      stop: [],
      // Every answer has its full length: what is compared is time.
      logit_bias: [[2, -100]],
    },
  }
}

async function measure(runner: RunnerProcess, wire: GenerateRequest): Promise<Sample> {
  const startMs = performance.now()
  const timesMs: number[] = []
  for await (const { event } of runner.generate(wire)) {
    if (event === 'token') timesMs.push(performance.now() - startMs)
  }
  return { firstMs: timesMs[0]!, gapsMs: timesMs.slice(1).map((ms, i) => ms - timesMs[i]!) }
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

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!
}

const round = (value: number): number => Math.round(value * 10) / 10
