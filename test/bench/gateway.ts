/**
 * What gateways add in front of one stub that answers at once: latency, and how many requests a
 * second get through. Arcana's gateway (front, workerd and all, as `npm start` runs it) is compared
 * with Portkey's and LiteLLM's proxy, in turns, in one run. The stub, the caller and the gateway
 * share this machine's cores, for all alike.
 * The added latency is the latency through a gateway less that of the stub itself.
 * `npm run bench -- gateway [--chats N (600)] [--turns N (3)] [--ways arcana,portkey,litellm]`
 */
import { parseArgs } from 'node:util'
import { fileURLToPath } from 'node:url'
import { BASE_MODEL } from '../fixtures/api.ts'
import { startService } from '../fixtures/service-process.ts'
import { ask, type Asked } from './gateway/ask.ts'
import { startArcana, startLiteLlm, startPortkey, type Stub, type Way } from './gateway/ways.ts'

const STUB = fileURLToPath(new URL('./gateway/stub-server.ts', import.meta.url))
const CONCURRENCIES = [1, 10, 64]
const WARM_UP_SHARE = 0.5
const STARTERS: Readonly<Record<string, (stub: Stub) => Promise<Way>>> = {
  arcana: startArcana,
  portkey: startPortkey,
  litellm: startLiteLlm,
}

/** The stub as a runner cannot see whether a caller streams; 17 tokens tell it to write in turns. */
const chatOf = (isStream: boolean) => ({
  isStream,
  body: JSON.stringify({
    model: BASE_MODEL,
    messages: [{ role: 'user', content: 'What is the capital of France?' }],
    max_tokens: isStream ? 17 : 16,
    stream: isStream,
  }),
})

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      chats: { type: 'string', default: '600' },
      turns: { type: 'string', default: '3' },
      ways: { type: 'string', default: 'arcana,portkey,litellm' },
    },
  })
  const { process: child, port } = await startService('stub', [STUB], process.env)
  const direct: Way = {
    name: 'the stub itself',
    baseUrl: `http://127.0.0.1:${port}/v1`,
    headers: {},
    stop: () => Promise.resolve(),
  }
  const ways = [direct]
  try {
    for (const name of values.ways.split(',')) {
      ways.push(await STARTERS[name]!({ port, model: BASE_MODEL }))
    }
    for (const isStream of [false, true]) {
      for (const concurrency of CONCURRENCIES) {
        const asked = await askInTurns(ways, isStream, concurrency, {
          numChats: Number(values.chats),
          numTurns: Number(values.turns),
        })
        print(asked, isStream, concurrency)
      }
    }
  } finally {
    for (const way of ways) await way.stop()
    child.stdin!.end()
  }
}

async function askInTurns(
  ways: readonly Way[],
  isStream: boolean,
  concurrency: number,
  { numChats, numTurns }: { readonly numChats: number; readonly numTurns: number },
): Promise<Map<string, Asked[]>> {
  const asked = new Map<string, Asked[]>()
  const chat = chatOf(isStream)
  for (const way of ways) await ask(way, chat, Math.ceil(WARM_UP_SHARE * numChats), concurrency)
  for (let turn = 0; turn < numTurns; turn++) {
    for (const way of ways) {
      const own = asked.get(way.name) ?? []
      asked.set(way.name, [...own, await ask(way, chat, numChats, concurrency)])
    }
  }
  return asked
}

function print(
  asked: ReadonlyMap<string, readonly Asked[]>,
  isStream: boolean,
  rows: number,
): void {
  const figures = [...asked].map(([name, turns]) => {
    const latencies = turns.flatMap(({ latenciesMs }) => latenciesMs)
    const rates = turns.map(({ latenciesMs, seconds }) => latenciesMs.length / seconds)
    return { name, p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99), rates }
  })
  const [direct] = figures as [(typeof figures)[number]]
  const table = Object.fromEntries(
    figures.map(({ name, p50, p99, rates }) => [
      name,
      {
        'p50 ms': round(p50),
        'p99 ms': round(p99),
        'added p50 ms': round(p50 - direct.p50),
        'added p99 ms': round(p99 - direct.p99),
        'requests/s': Math.round(quantile(rates, 0.5)),
      },
    ]),
  )
  const kind = isStream ? 'streamed, to the first byte' : 'not streamed'
  console.log(`${kind}, ${rows} at a time`)
  console.table(table)
  console.log(JSON.stringify({ figure: kind, concurrency: rows, ...table }))
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN
}
const round = (value: number): number => Math.round(value * 100) / 100
