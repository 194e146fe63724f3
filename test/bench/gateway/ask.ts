/** Chats from a closed loop of callers, each with a connection of its own that is kept. */
import { Agent, request } from 'node:http'

export type Asked = { readonly latenciesMs: readonly number[]; readonly seconds: number }

export type Target = {
  readonly baseUrl: string
  readonly headers: Readonly<Record<string, string>>
}

/**
 * Sends `numChats` chats, `concurrency` at a time. A latency is the time to the whole answer, or in a
 * stream to the first byte of it.
 * @throws {Error} an answer is not 200, or a stream does not end with `[DONE]`
 */
export async function ask(
  target: Target,
  chat: { readonly body: string; readonly isStream: boolean },
  numChats: number,
  concurrency: number,
): Promise<Asked> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency })
  const latenciesMs: number[] = []
  let numLeft = numChats
  const startedAtMs = performance.now()
  const caller = async (): Promise<void> => {
    while (numLeft-- > 0) latenciesMs.push(await askOnce(target, chat, agent))
  }
  await Promise.all(Array.from({ length: concurrency }, caller))
  const seconds = (performance.now() - startedAtMs) / 1000
  agent.destroy()
  return { latenciesMs, seconds }
}

function askOnce(
  { baseUrl, headers }: Target,
  { body, isStream }: { readonly body: string; readonly isStream: boolean },
  agent: Agent,
): Promise<number> {
  const url = `${baseUrl}/chat/completions`
  const all = {
    ...headers,
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
  }
  const sentAtMs = performance.now()
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'POST', headers: all, agent }, (response) => {
      let firstMs = NaN
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        if (text === '') firstMs = performance.now() - sentAtMs
        text += part
      })
      response.on('error', reject)
      response.on('end', () => {
        const isWhole = !isStream || text.trimEnd().endsWith('data: [DONE]')
        if (response.statusCode !== 200 || !isWhole) {
          reject(new Error(`${url} answered ${response.statusCode ?? 0}: ${text.slice(-500)}`))
        } else resolve(isStream ? firstMs : performance.now() - sentAtMs)
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}
