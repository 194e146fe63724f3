/** Requests of mixed length to a real runner, and how long their tokens take. */
import { randomRotationBytes } from '../../fixtures/adapter-bytes.ts'
import type { RunnerProcess } from '../../fixtures/runner-process.ts'
import type { GenerateRequest } from '../../../src/protocol/runner.ts'

const MAX_TOKENS = 32
const NUM_ADAPTERS = 16
const WORDS = 'river stone bridge engineer coin market rain copper town sea letter garden'.split(
  ' ',
)

export type Sample = { readonly firstMs: number; readonly gapsMs: readonly number[] }

export async function pushAdapters(runner: RunnerProcess): Promise<string[]> {
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
export function wireOf(random: () => number, digests: readonly string[]): GenerateRequest {
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

export async function measure(
  runner: RunnerProcess,
  wire: GenerateRequest,
  signal?: AbortSignal,
): Promise<Sample> {
  const startMs = performance.now()
  const timesMs: number[] = []
  for await (const { event } of runner.generate(wire, signal)) {
    if (event === 'token') timesMs.push(performance.now() - startMs)
  }
  return { firstMs: timesMs[0]!, gapsMs: timesMs.slice(1).map((ms, i) => ms - timesMs[i]!) }
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!
}

export const round = (value: number): number => Math.round(value * 10) / 10
