/** Arcana's runner as its own process, as `npm run runner` starts it. */
import { fileURLToPath } from 'node:url'
import {
  generateEventSchema,
  type Arm,
  type GenerateRequest,
} from '../../../src/protocol/runner.ts'
import { TEST_CACHE_DIR } from '../../fixtures/model.ts'
import {
  peakMemoryMib,
  postLines,
  startServer,
  stopServer,
  type GenerateOptions,
  type Generation,
  type Target,
} from './target.ts'

const ENTRY = fileURLToPath(new URL('../../../gpu-runner/main.ts', import.meta.url))
const SECRET = 'bench-secret-of-this-machine'
/** Bans a token as llama.cpp's `ignore_eos` does, with a logit bias. */
const BAN = -100

export type Arcana = Target & {
  /** Makes an adapter file resident. */
  putAdapter(digest: string, bytes: Uint8Array): Promise<void>
}

/**
 * @param stopIds tokens that would end an answer
 * @param env settings beside the defaults of `gpu-runner/config.ts`
 */
export async function startArcana(
  stopIds: readonly number[],
  env: NodeJS.ProcessEnv = {},
  name = 'arcana',
): Promise<Arcana> {
  const server = await startServer(process.execPath, [ENTRY], {
    ARCANA_RUNNER_SECRET: SECRET,
    ARCANA_RUNNER_PORT: '0',
    ARCANA_THREADS: '2',
    ARCANA_MODEL_CACHE: TEST_CACHE_DIR,
    ARCANA_EXIT_WITH_STDIN: '1',
    ...env,
  })
  const url = `http://127.0.0.1:${server.ready.port!}`
  const headers = { authorization: `Bearer ${SECRET}` }
  let numRequests = 0

  async function generate(
    prompt: readonly number[],
    { numTokens, adapters, tenant }: GenerateOptions,
  ): Promise<Generation> {
    const arms: Arm[] = adapters?.map((digest) => ({
      adapters: [{ digest, weight: 1 }],
      scope: 'generated',
    })) ?? [{ adapters: [], scope: 'generated' }]
    const wire: GenerateRequest = {
      request_id: `bench-${numRequests++}`,
      ...(tenant === undefined ? {} : { tenant }),
      prompt: [...prompt],
      arms,
      sampling: {
        max_tokens: numTokens,
        temperature: 0,
        top_p: 1,
        stop: [],
        logit_bias: stopIds.map((id) => [id, BAN]),
      },
    }
    const tokenMs = arms.map((): number[] => [])
    const ids = arms.map((): number[] => [])
    let last = ''
    const startMs = performance.now()
    await postLines(`${url}/v1/generate`, wire, headers, (line, nowMs) => {
      const event = generateEventSchema.parse(JSON.parse(line))
      if (event.event === 'error') throw new Error(event.error.message)
      last = event.event
      if (event.event !== 'token') return
      for (const id of event.ids) {
        tokenMs[event.arm]!.push(nowMs)
        ids[event.arm]!.push(id)
      }
    })
    if (last !== 'done') throw new Error('the runner closed the stream before its end')
    return { startMs, tokenMs, ids }
  }

  return {
    name,
    listenMs: server.listenMs,
    generate,
    async putAdapter(digest, bytes) {
      const response = await fetch(`${url}/v1/adapters/${digest}`, {
        method: 'PUT',
        headers,
        body: Uint8Array.from(bytes),
      })
      if (!response.ok) throw new Error(await response.text())
    },
    peakMemoryMib: () => peakMemoryMib(server),
    stop: () => stopServer(server),
  }
}
