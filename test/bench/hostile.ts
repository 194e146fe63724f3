/**
 * Measures how long a hostile body delays other callers. It sends each body once to the real stack
 * while two callers ask without a pause: one for an answer of the gateway itself, one for an answer
 * of the runner. It prints each caller's longest wait, and the longest wait without a hostile body.
 * `npm run bench -- hostile [names of bodies]`
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { gzip } from 'node:zlib'
import { randomRotationBytes } from '../fixtures/adapter-bytes.ts'
import { BASE_MODEL } from '../fixtures/api.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'
import { deflatedZeros, writeZip } from '../fixtures/zip-writer.ts'
import { Caller } from './hostile/caller.ts'

const MIB = 1024 * 1024
const QUIET_MS = 2_000
const GATEWAY_PATH = '/'
const RUNNER_PATH = '/tokenizer_info'

type Hostile = {
  readonly path: string
  readonly body: () => Promise<string | FormData>
  readonly isGzipped?: boolean
}

export async function run(names: readonly string[]): Promise<void> {
  const stack = await startStack()
  try {
    const nothing = async () => {
      await sleep(QUIET_MS)
      return ''
    }
    await watched(stack, nothing)
    print('nothing', await watched(stack, nothing))
    for (const [name, hostile] of Object.entries(BODIES)) {
      if (names.length > 0 && !names.includes(name)) continue
      const send = await prepareToSend(stack, hostile)
      print(name, await watched(stack, async () => (await send()).slice(0, 100)))
    }
  } finally {
    await stack.stop()
  }
}

const repeated = (item: string, maxBytes: number): string =>
  Array.from({ length: Math.floor(maxBytes / (item.length + 1)) }, () => item).join()

const chat = (messages: string): Hostile => ({
  path: '/v1/chat/completions',
  body: () => Promise.resolve(`{"model":"${BASE_MODEL}","messages":[${messages}]}`),
})
const file = (content: () => string): Hostile => ({
  path: '/v1/files',
  body: () => {
    const form = new FormData()
    form.set('purpose', 'fine-tune')
    form.set('file', new Blob([content()]), 'a.jsonl')
    return Promise.resolve(form)
  },
})
const adapter = (content: () => Promise<Uint8Array<ArrayBuffer>>, format?: string): Hostile => ({
  path: '/v1/tasks/hostile/versions',
  body: async () => {
    const form = new FormData()
    form.set('file', new Blob([await content()]), 'a.safetensors')
    if (format !== undefined) {
      form.set('format', format)
      form.set('version', JSON.stringify({ model: BASE_MODEL }))
    }
    return form
  },
})

/** A safetensors file that is nothing but a header. */
function headerOnly(header: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + text.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true)
  bytes.set(text, 8)
  return bytes
}

const parts = (path: string, count: number): Hostile => ({
  path,
  body: () => {
    const form = new FormData()
    for (let i = 0; i < count; i++) form.append(`a${i}`, '')
    return Promise.resolve(form)
  },
})
const gzipped = (hostile: Hostile): Hostile => ({ ...hostile, isGzipped: true })

const EMPTY_LINES = () => '\n'.repeat(60 * MIB)
const LONG_LINES = () => `{"input":"${'a'.repeat(250_000)}","label":"b"}\n`.repeat(200)

const BODIES: Readonly<Record<string, Hostile>> = {
  'zip-lies': adapter(() => {
    const entry = { bytes: new Uint8Array(1000), packed: deflatedZeros(1.5e9) }
    const name = 'adapter_model.safetensors'
    return Promise.resolve(writeZip([{ name, ...entry, claimedBytes: 1000 }]))
  }, 'peft'),
  'zip-claims': adapter(() => {
    const entry = { bytes: new Uint8Array(1000), packed: deflatedZeros(1.5e9) }
    const name = 'adapter_model.safetensors'
    return Promise.resolve(writeZip([{ name, ...entry, claimedBytes: 1.5e9 }]))
  }, 'peft'),
  'zip-many-entries': adapter(() => {
    const bytes = new Uint8Array(0)
    const entries = Array.from({ length: 60_000 }, (_, i) => ({ name: `${i}`, bytes, method: 0 }))
    return Promise.resolve(writeZip(entries))
  }, 'peft'),
  'safetensors-header': adapter(() =>
    Promise.resolve(headerOnly(`{"a":[${repeated('1', 900_000)}]}`)),
  ),
  'safetensors-spaces': adapter(() => Promise.resolve(headerOnly(`{"a":${' '.repeat(900_000)}1}`))),
  'safetensors-large': adapter(() => {
    const bytes = new Uint8Array(16 * MIB)
    bytes.set(headerOnly('{}'))
    return Promise.resolve(bytes)
  }),
  'safetensors-sound': adapter(async () => (await randomRotationBytes(1)).bytes),
  'jsonl-empty-lines': file(EMPTY_LINES),
  'jsonl-short-lines': file(() => '{"input":"a","label":"b"}\n'.repeat(100_000)),
  'jsonl-many-labels': file(() =>
    Array.from({ length: 99_000 }, (_, i) => `{"input":"a","label":"b${i}"}\n`).join(''),
  ),
  'jsonl-messages-that-are-none': file(() =>
    `{"messages":[${repeated('{}', 255 * 1024)}]}\n`.repeat(200),
  ),
  'jsonl-long-lines': file(LONG_LINES),
  'multipart-many-parts': parts('/v1/files', 100_000),
  'adapter-many-parts': parts('/v1/tasks/hostile/versions', 100_000),
  'gzip-empty-lines': gzipped(file(EMPTY_LINES)),
  'gzip-long-lines': gzipped(file(LONG_LINES)),
  'gzip-spaces': gzipped({
    path: '/v1/chat/completions',
    body: () => Promise.resolve(' '.repeat(60 * MIB)),
  }),
  'empty-messages': chat(repeated('{"role":"user","content":""}', 1_000_000)),
  'messages-at-the-limit': chat(
    Array.from({ length: 2048 }, () => `{"role":"user","content":"${"'s ".repeat(150)}"}`).join(),
  ),
  'chat-of-apostrophes': chat(`{"role":"user","content":"${"'s ".repeat(340_000)}"}`),
  'chat-of-one-word': chat(`{"role":"user","content":"${'a'.repeat(1_000_000)}"}`),
  'tokenize-apostrophes': {
    path: '/tokenize',
    body: () => Promise.resolve(JSON.stringify({ prompt: "'s ".repeat(340_000) })),
  },
  'tokenize-one-word': {
    path: '/tokenize',
    body: () => Promise.resolve(JSON.stringify({ prompt: 'a'.repeat(1_000_000) })),
  },
  'tokenize-spaces': {
    path: '/tokenize',
    body: () => Promise.resolve(JSON.stringify({ prompt: ' '.repeat(1_000_000) })),
  },
  'tokenize-emoji': {
    path: '/tokenize',
    body: () => Promise.resolve(JSON.stringify({ prompt: '👩‍👩‍👧'.repeat(50_000) })),
  },
}

/**
 * Hands a body to a thread of its own, which sends it when told to. What it costs to build and to hand
 * over is paid before anyone is timed.
 */
async function prepareToSend(stack: Stack, hostile: Hostile): Promise<() => Promise<string>> {
  const body = await hostile.body()
  const encoded = new Response(body)
  const type = typeof body === 'string' ? 'application/json' : encoded.headers.get('content-type')
  const plain = new Uint8Array(await encoded.arrayBuffer())
  const bytes = hostile.isGzipped === true ? Uint8Array.from(await promisify(gzip)(plain)) : plain
  const sender = new Worker(new URL('./hostile/sender.ts', import.meta.url), {
    workerData: {
      url: new URL(hostile.path, stack.baseUrl).href,
      headers: {
        authorization: `Bearer ${stack.apiKey}`,
        'content-type': type,
        ...(hostile.isGzipped === true ? { 'content-encoding': 'gzip' } : {}),
      },
      body: bytes,
    },
    transferList: [bytes.buffer],
  })
  await once(sender, 'message')
  return async () => {
    sender.postMessage('send')
    const [answer] = (await once(sender, 'message')) as [string]
    return answer
  }
}

/** Runs an action while two callers ask in turns, and notes their longest waits. */
async function watched(stack: Stack, action: () => Promise<string>) {
  const callers = [new Caller(stack, GATEWAY_PATH), new Caller(stack, RUNNER_PATH)]
  const startedAtMs = performance.now()
  const answer = await action()
  const seconds = (performance.now() - startedAtMs) / 1000
  await Promise.all(callers.map((caller) => caller.stop()))
  const [gateway, runner] = callers.map((caller) => caller.takeLongestMs())
  return { answer, seconds, longest_wait_ms: { gateway, runner } }
}

function print(body: string, { seconds, ...found }: Awaited<ReturnType<typeof watched>>): void {
  console.log(JSON.stringify({ body, seconds: Math.round(seconds * 100) / 100, ...found }))
}
