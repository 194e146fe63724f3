import { Gauge, type Registry } from 'prom-client'
import type { Runner } from '../runner.ts'

/**
 * Most adapters that `vllm:lora_requests_info` names. A digest has 64 characters, and a scheduler may
 * refuse a label of all 4,096 that a runner can hold.
 */
const MAX_NAMED_ADAPTERS = 256

/**
 * The gauges by which llm-d and the Gateway API inference extension schedule, under the names that
 * vLLM gave them. Schedulers know an adapter here by its digest.
 * Source: the model server protocol of kubernetes-sigs/gateway-api-inference-extension
 */
export function addSchedulerMetrics(
  registry: Registry,
  { engine, adapters, context }: Runner,
  modelSlug: string,
): void {
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      labelNames: ['model_name'],
      registers,
      collect() {
        this.set({ model_name: modelSlug }, read())
      },
    })
  }
  gauge('vllm:num_requests_running', 'Rows that decode or are promised to a prompt', () => {
    return engine.load.running
  })
  gauge('vllm:num_requests_waiting', 'Requests without a row', () => engine.load.waiting)
  gauge('vllm:kv_cache_usage_perc', 'Share of the decode rows’ KV in use; 1 means all', () => {
    const { running, maxNumSeqs } = engine.scheduler
    const numTokens = running.reduce((sum, { numComputedTokens: own }) => sum + own, 0)
    return numTokens / (maxNumSeqs * context.maxContext)
  })
  new Gauge({
    name: 'vllm:lora_requests_info',
    help: 'When this was measured, in Unix seconds; its labels name the adapters in memory',
    labelNames: ['max_lora', 'running_lora_adapters', 'waiting_lora_adapters'],
    registers,
    collect() {
      // Without this, each set of adapters that there ever was would stay a line.
      this.reset()
      this.set(
        {
          max_lora: String(adapters.maxResident),
          running_lora_adapters: adapters.recentDigests(MAX_NAMED_ADAPTERS).join(','),
          // A request waits with its adapters in memory, so none waits for one.
          waiting_lora_adapters: '',
        },
        Date.now() / 1000,
      )
    },
  })
}
