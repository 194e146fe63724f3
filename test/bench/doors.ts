/**
 * What the front before workerd costs: the same requests to workerd's socket and through the front,
 * in turns, in one run. The requests need no runner, so that nothing hides the cost.
 * `npm run bench -- doors [requests a turn, 1000] [turns, 3]`
 */
import { Agent, request, type RequestOptions } from 'node:http'
import { join } from 'node:path'
import { socketPaths } from '../../src/local/worker-options.ts'
import { startStack } from '../fixtures/stack.ts'

const DEFAULT_REQUESTS = 1_000
const DEFAULT_TURNS = 3
const NUM_WARM_UP = 200
const SATURATING = 32

type Way = { readonly name: string; readonly target: RequestOptions }

export async function run(args: readonly string[]): Promise<void> {
  const numRequests = Number(args[0] ?? DEFAULT_REQUESTS)
  const numTurns = Number(args[1] ?? DEFAULT_TURNS)
  const stack = await startStack()
  try {
    const headers = { authorization: `Bearer ${stack.apiKey}` }
    const { gateway } = socketPaths(join(stack.home, 'run', 'sockets'))
    const ways: Way[] = [
      { name: 'workerd alone', target: { socketPath: gateway, headers } },
      { name: 'through the front', target: { host: '127.0.0.1', port: stack.port, headers } },
    ]
    for (const { target } of ways) await measure(target, NUM_WARM_UP, 1)
    for (let turn = 1; turn <= numTurns; turn++) {
      for (const { name, target } of ways) {
        const alone = await measure(target, numRequests, 1)
        const saturated = await measure(target, numRequests, SATURATING)
        console.log(
          JSON.stringify({
            figure: name,
            turn,
            latency_ms_p50: quantile(alone.latenciesMs, 0.5),
            latency_ms_p99: quantile(alone.latenciesMs, 0.99),
            saturated_requests_per_second: Math.round(numRequests / saturated.seconds),
          }),
        )
      }
    }
  } finally {
    await stack.stop()
  }
}

async function measure(target: RequestOptions, numRequests: number, concurrency: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency })
  const latenciesMs: number[] = []
  let numLeft = numRequests
  const startedAtMs = performance.now()
  const client = async (): Promise<void> => {
    while (numLeft-- > 0) {
      const sentAtMs = performance.now()
      await get({ ...target, path: '/v1/files', agent })
      latenciesMs.push(performance.now() - sentAtMs)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, client))
  const seconds = (performance.now() - startedAtMs) / 1000
  agent.destroy()
  return { latenciesMs, seconds }
}

function get(options: RequestOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    request(options, (response) => {
      response.resume()
      response.on('error', reject)
      response.on('end', () => {
        if (response.statusCode === 200) resolve()
        else reject(new Error(`answered ${response.statusCode ?? 0}`))
      })
    })
      .on('error', reject)
      .end()
  })
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const value = sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN
  return Math.round(value * 100) / 100
}
