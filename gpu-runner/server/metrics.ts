import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { PHASES } from '../engine/profile.ts'
import type { Runner } from '../runner.ts'
import type { RunnerError } from '../../src/protocol/runner.ts'
import { registerSchedulerMetrics } from './scheduler-metrics.ts'

const SECONDS_TO_FIRST_TOKEN = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60]
const SECONDS_BETWEEN_TOKENS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
const ROWS = [1, 2, 4, 8, 12, 16, 32, 64, 128, 256]

export type Metrics = {
  readonly registry: Registry
  /** Counts a call that was answered with an error. */
  readonly countRefusal: (reason: RunnerError['code']) => void
}

/**
 * Prometheus metrics. State is read when the metrics are asked for; durations are recorded as they
 * happen.
 */
export function createMetrics(runner: Runner, modelSlug: string): Metrics {
  const { engine, executor, adapters, context } = runner
  const registry = new Registry()
  registerSchedulerMetrics(registry, runner, modelSlug)
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  }
  const counter = (name: string, help: string, read: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  }
  gauge(
    'arcana_rows_running',
    'Rows that decode or are promised to a prompt',
    () => engine.load.running,
  )
  gauge('arcana_requests_waiting', 'Requests without a row', () => engine.load.waiting)
  gauge('arcana_rows_parked', 'Rows of flex preempted by other requests', () => engine.load.parked)
  gauge(
    'arcana_parked_kv_bytes',
    'KV of preempted rows and prompts',
    () => engine.parkedKv.sizeBytes,
  )
  gauge('arcana_adapters_resident', 'Adapters in memory', () => adapters.digests.length)
  gauge('arcana_slots_leased', 'Rotation slots in use', () => context.slots.numLeased)
  const { prefixCache } = engine
  gauge('arcana_prefix_cache_bytes', 'KV kept for later prompts', () => prefixCache.sizeBytes)
  gauge('arcana_prefix_cache_max_bytes', 'Budget of the prefix cache', () => prefixCache.maxBytes)
  gauge('arcana_prefix_cache_blocks', 'Blocks in the prefix cache', () => prefixCache.numBlocks)
  const { counters: cache } = prefixCache
  counter('arcana_prefix_cache_lookups_total', 'Prompts looked up', () => cache.lookups)
  counter('arcana_prefix_cache_hits_total', 'Lookups that found a block', () => cache.hits)
  counter('arcana_prefix_cache_evictions_total', 'Blocks evicted', () => cache.evicted)
  const { counters } = engine
  counter(
    'arcana_cached_tokens_total',
    'Prompt tokens from the prefix cache',
    () => counters.cachedTokens,
  )
  counter('arcana_prefill_tokens_total', 'Prompt tokens computed', () => counters.prefillTokens)
  counter(
    'arcana_decode_tokens_total',
    'Tokens that decode steps computed',
    () => counters.decodeTokens,
  )
  counter('arcana_decode_steps_total', 'Decode steps', () => counters.decodeSteps)
  counter('arcana_requests_finished_total', 'Requests answered', () => counters.finished)
  counter('arcana_requests_failed_total', 'Requests that failed', () => counters.failed)
  counter('arcana_requests_aborted_total', 'Requests whose caller left', () => counters.aborted)
  counter(
    'arcana_requests_expired_total',
    'Requests dropped past their deadline',
    () => counters.expired,
  )
  const { counters: rows } = engine.scheduler
  counter('arcana_rows_preempted_total', 'Rows preempted by other requests', () => rows.preempted)
  counter('arcana_rows_resumed_total', 'Preempted rows that resumed', () => rows.resumed)
  const { turns, profile } = executor
  gauge(
    'arcana_job_share_ratio',
    'Jobs’ share of the recent time with live requests',
    () => turns.measuredShare,
  )
  gauge(
    'arcana_job_share_limit_ratio',
    'Most that jobs may take of that time',
    () => turns.jobShare,
  )
  new Counter({
    name: 'arcana_engine_seconds_total',
    help: 'Seconds that the engine spent in each phase',
    labelNames: ['phase'],
    registers,
    collect() {
      this.reset()
      for (const phase of PHASES) this.inc({ phase }, profile.ms(phase) / 1000)
    },
  })
  const histogram = (name: string, help: string, buckets: number[], labelNames: string[]) =>
    new Histogram({ name, help, buckets, labelNames, registers })
  const firstToken = histogram(
    'arcana_time_to_first_token_seconds',
    'Seconds from admission to a row’s first token',
    SECONDS_TO_FIRST_TOKEN,
    ['tier'],
  )
  const nextToken = histogram(
    'arcana_inter_token_seconds',
    'Seconds from one token of a row to the next',
    SECONDS_BETWEEN_TOKENS,
    ['tier'],
  )
  const batch = histogram('arcana_batch_rows', 'Rows in a decode step', ROWS, [])
  engine.listen((event) => {
    if (event.kind === 'decode_step') batch.observe(event.numRows)
    else if (event.kind === 'first_token' || event.kind === 'next_token') {
      const seconds = event.kind === 'first_token' ? firstToken : nextToken
      seconds.observe({ tier: event.request.tier }, event.ms / 1000)
    }
  })
  const refusals = new Counter({
    name: 'arcana_calls_refused_total',
    help: 'Calls answered with an error, by its code',
    labelNames: ['reason'],
    registers,
  })
  return {
    registry,
    countRefusal: (reason) => {
      refusals.inc({ reason })
    },
  }
}
