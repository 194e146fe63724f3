import { Gauge, type Registry } from 'prom-client'
import type { Runner } from '../runner.ts'

/**
 * Most resident adapters that the metrics name. A store of 4,096 digests would be 266 kB of label, and
 * llm-d asks twenty times a second.
 */
export const MAX_NAMED_ADAPTERS = 256

/**
 * The metrics by which llm-d and the Gateway API inference extension choose a server, under vLLM's
 * names and with its labels. An adapter's name is its digest, because a runner knows no other.
 *
 * - A request runs once it has a row; a request that is preempted whole waits again, as in vLLM.
 * - The unit of KV is a row, since a row's memory is set aside whole.
 * - `running_lora_adapters` lists adapters in memory, ready to serve, whether a request uses them or
 *   not.
 *
 * Source: gateway-api-inference-extension, docs/proposals/003-model-server-protocol
 */
export function registerSchedulerMetrics(
  registry: Registry,
  { engine, adapters }: Pick<Runner, 'engine' | 'adapters'>,
  modelSlug: string,
): void {
  const registers = [registry]
  const labels = { model_name: modelSlug, engine: '0' }
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      labelNames: ['model_name', 'engine'],
      collect() {
        this.set(labels, read())
      },
    })
  }
  const { scheduler } = engine
  gauge('vllm:num_requests_running', 'Requests that have rows', () => scheduler.numRequestsRunning)
  gauge(
    'vllm:num_requests_waiting',
    'Requests without a row, preempted ones included',
    () => scheduler.requests().size - scheduler.numRequestsRunning,
  )
  gauge(
    'vllm:kv_cache_usage_perc',
    'Share of the rows that are in use, from 0 to 1',
    () => 1 - scheduler.numFree / scheduler.maxNumSeqs,
  )
  new Gauge({
    name: 'vllm:lora_requests_info',
    help: 'Adapters in memory and those of waiting requests; the value is the time in seconds',
    registers,
    labelNames: ['max_lora', 'running_lora_adapters', 'waiting_lora_adapters'],
    collect() {
      const waiting = scheduler.waiting.flatMap(({ groups }) =>
        groups.flatMap(({ sequences }) =>
          sequences.flatMap(({ describeApplied }) =>
            describeApplied().adapters.map(({ digest }) => digest),
          ),
        ),
      )
      // Only the present lists are reported; old label values would stay otherwise.
      this.reset()
      this.set(
        {
          max_lora: String(adapters.maxResident),
          running_lora_adapters: joinSorted(adapters.recentlyUsed(MAX_NAMED_ADAPTERS)),
          waiting_lora_adapters: joinSorted(waiting),
        },
        Date.now() / 1000,
      )
    },
  })
}

/** In one order, so that the same adapters are the same time series. */
const joinSorted = (digests: readonly string[]): string => [...new Set(digests)].sort().join(',')
