/**
 * Measures the time that the front before workerd adds. It sends the same requests in turns to
 * workerd's socket, through the front, and, with `--before`, to the `npm start` of another
 * checkout. One kind of request needs no runner, so that nothing hides the cost; the other is a
 * chat.
 * `npm run bench -- doors [--requests N (1000)] [--chats N (100)] [--turns N (3)] [--before CHECKOUT]`
 */
import { Agent, request, type RequestOptions } from 'node:http'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { socketPaths } from '../../src/local/worker-options.ts'
import { BASE_MODEL } from '../fixtures/api.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'

const NUM_WARM_UP = 200
const SATURATING = 32

type Way = { readonly name: string; readonly target: RequestOptions }
type Ask = { readonly method: string; readonly path: string; readonly body?: string }

const LIST: Ask = { method: 'GET', path: '/v1/files' }
const CHAT: Ask = {
  method: 'POST',
  path: '/v1/chat/completions',
  body: JSON.stringify({
    model: BASE_MODEL,
    messages: [{ role: 'user', content: 'What is the capital of France?' }],
    max_tokens: 1,
  }),
}

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      requests: { type: 'string', default: '1000' },
      chats: { type: 'string', default: '100' },
      turns: { type: 'string', default: '3' },
      before: { type: 'string' },
    },
  })
  const stacks: Stack[] = [await startStack()]
  try {
    const [stack] = stacks as [Stack]
    const { gateway } = socketPaths(join(stack.home, 'run', 'sockets'))
    const headers = { authorization: `Bearer ${stack.apiKey}` }
    const ways: Way[] = [
      { name: 'workerd alone', target: { socketPath: gateway, headers } },
      { name: 'through the front', target: targetOf(stack) },
    ]
    if (values.before !== undefined) {
      const entry = resolve(values.before, 'src/local/main.ts')
      const other = await startStack({ command: [process.execPath, entry] })
      stacks.push(other)
      ways.push({ name: values.before, target: targetOf(other) })
    }
    for (const { target } of ways) {
      await measure(target, LIST, NUM_WARM_UP, 1)
      await measure(target, CHAT, SATURATING, SATURATING)
    }
    for (let turn = 1; turn <= Number(values.turns); turn++) {
      for (const { name, target } of ways) {
        const list = await figures(target, LIST, Number(values.requests))
        const chat = await figures(target, CHAT, Number(values.chats))
        console.log(JSON.stringify({ figure: name, turn, list, chat }))
      }
    }
  } finally {
    for (const stack of stacks) await stack.stop()
  }
}

const targetOf = ({ port, apiKey }: Stack): RequestOptions => ({
  host: '127.0.0.1',
  port,
  headers: { authorization: `Bearer ${apiKey}` },
})

async function figures(target: RequestOptions, ask: Ask, numRequests: number) {
  const alone = await measure(target, ask, numRequests, 1)
  const saturated = await measure(target, ask, numRequests, SATURATING)
  return {
    latency_ms_p50: quantile(alone.latenciesMs, 0.5),
    latency_ms_p99: quantile(alone.latenciesMs, 0.99),
    saturated_requests_per_second: Math.round((10 * numRequests) / saturated.seconds) / 10,
  }
}

async function measure(target: RequestOptions, ask: Ask, numRequests: number, concurrency: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency })
  const latenciesMs: number[] = []
  let numLeft = numRequests
  const startedAtMs = performance.now()
  const client = async (): Promise<void> => {
    while (numLeft-- > 0) {
      const sentAtMs = performance.now()
      await send({ ...target, agent }, ask)
      latenciesMs.push(performance.now() - sentAtMs)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, client))
  const seconds = (performance.now() - startedAtMs) / 1000
  agent.destroy()
  return { latenciesMs, seconds }
}

function send(target: RequestOptions, { method, path, body }: Ask): Promise<void> {
  const type = body === undefined ? {} : { 'content-type': 'application/json' }
  const headers = { ...(target.headers as Record<string, string>), ...type }
  return new Promise((resolve, reject) => {
    request({ ...target, method, path, headers }, (response) => {
      response.resume()
      response.on('error', reject)
      response.on('end', () => {
        if (response.statusCode === 200) resolve()
        else reject(new Error(`${path} answered ${response.statusCode ?? 0}`))
      })
    })
      .on('error', reject)
      .end(body)
  })
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const value = sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN
  return Math.round(value * 100) / 100
}
