import { Counter, Gauge, Registry } from 'prom-client'
import type { Runner } from '../runner.ts'

/** Prometheus text of the runner's state, read when asked. */
export function createMetrics({ engine, adapters, context }: Runner): Registry {
  const registry = new Registry()
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
  gauge('arcana_rows_running', 'Rows decoding or promised', () => engine.load.running)
  gauge('arcana_requests_waiting', 'Requests without a row', () => engine.load.waiting)
  gauge('arcana_adapters_resident', 'Adapters in memory', () => adapters.digests.length)
  gauge('arcana_slots_leased', 'Rotation slots in use', () => context.slots.numLeased)
  const { prefixCache } = engine
  gauge('arcana_prefix_cache_bytes', 'KV kept for later prompts', () => prefixCache.sizeBytes)
  gauge('arcana_prefix_cache_max_bytes', 'Its budget', () => prefixCache.maxBytes)
  gauge('arcana_prefix_cache_blocks', 'Blocks kept', () => prefixCache.numBlocks)
  const { counters: cache } = prefixCache
  counter('arcana_prefix_cache_lookups_total', 'Prompts looked up', () => cache.lookups)
  counter('arcana_prefix_cache_hits_total', 'Lookups that found a block', () => cache.hits)
  counter('arcana_prefix_cache_evictions_total', 'Blocks given up', () => cache.evicted)
  const { counters } = engine
  counter('arcana_cached_tokens_total', 'Prompt tokens not computed', () => counters.cachedTokens)
  counter('arcana_prefill_tokens_total', 'Prompt tokens computed', () => counters.prefillTokens)
  counter('arcana_decode_tokens_total', 'Tokens fed by decode steps', () => counters.decodeTokens)
  counter('arcana_decode_steps_total', 'Decode steps', () => counters.decodeSteps)
  counter('arcana_requests_finished_total', 'Requests answered', () => counters.finished)
  counter('arcana_requests_failed_total', 'Requests that failed', () => counters.failed)
  counter('arcana_requests_aborted_total', 'Requests whose caller left', () => counters.aborted)
  return registry
}
