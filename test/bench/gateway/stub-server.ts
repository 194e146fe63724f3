/**
 * One process that answers at once, as a runner node to Arcana's gateway and as an OpenAI-compatible
 * server to the others. Both answers have the same words. A streamed answer is written word by word,
 * each in a turn of the event loop of its own.
 * It says `{"event":"ready","port":…}` and ends when its standard input closes.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { GenerateEvent } from '../../../src/protocol/runner.ts'
import { APPLIED, STATUS } from '../../fixtures/stub-status.ts'

const WORDS = Array.from({ length: 16 }, (_, i) => (i === 0 ? 'word' : ` word${i}`))
const USAGE = { prompt_tokens: 12, completion_tokens: WORDS.length }
type Write = (text: string) => void

async function answerAsRunner(write: Write, sent: string): Promise<void> {
  const { stream } = readFlags(sent)
  const say = (event: GenerateEvent) => {
    write(`${JSON.stringify(event)}\n`)
  }
  say({ event: 'accepted', arm: 0, applied: APPLIED, prompt_tokens: USAGE.prompt_tokens })
  for (const [id, text] of WORDS.entries()) {
    if (stream) await nextTurn()
    say({ event: 'token', arm: 0, text, ids: [id] })
  }
  const times = { first_token_ms: 0, total_ms: 0 }
  const usage = { ...USAGE, cached_tokens: 0 }
  say({ event: 'end', arm: 0, finish_reason: 'length', usage, applied: APPLIED, ...times })
  say({ event: 'done', num_prefills: 1 })
}

/** The gateway asks the runner for the same stream whether or not its own caller wants one. */
const readFlags = (sent: string): { readonly stream: boolean } => ({
  stream: sent.includes('"max_tokens":17'),
})

async function answerAsOpenAi(response: ServerResponse, sent: string): Promise<void> {
  const head = { id: 'chatcmpl-stub', created: 1, model: STATUS.model.slug }
  const usage = { ...USAGE, total_tokens: USAGE.prompt_tokens + USAGE.completion_tokens }
  if (!(JSON.parse(sent) as { stream?: boolean }).stream) {
    const message = { role: 'assistant', content: WORDS.join('') }
    const choices = [{ index: 0, message, logprobs: null, finish_reason: 'length' }]
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ ...head, object: 'chat.completion', choices, usage }))
    return
  }
  response.setHeader('content-type', 'text/event-stream')
  const say = (delta: object, finish_reason: string | null) => {
    const choices = [{ index: 0, delta, finish_reason }]
    const chunk = { ...head, object: 'chat.completion.chunk', choices }
    response.write(`data: ${JSON.stringify(chunk)}\n\n`)
  }
  for (const [i, content] of WORDS.entries()) {
    await nextTurn()
    say(i === 0 ? { role: 'assistant', content } : { content }, null)
  }
  say({}, 'length')
  response.end('data: [DONE]\n\n')
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  const sent = Buffer.concat(parts).toString()
  if (request.url === '/v1/status') {
    response.setHeader('content-type', 'application/json').end(JSON.stringify(STATUS))
  } else if (request.url === '/v1/generate') {
    response.setHeader('content-type', 'application/x-ndjson')
    await answerAsRunner((text) => response.write(text), sent)
    response.end()
  } else if (request.url?.endsWith('/chat/completions') === true) {
    await answerAsOpenAi(response, sent)
  } else {
    response.writeHead(404).end()
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy())
}).listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ event: 'ready', port: (server.address() as AddressInfo).port }))
})
process.stdin.resume().on('end', () => process.exit())
