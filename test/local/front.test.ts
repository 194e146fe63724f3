/** The front before workerd: deadlines, limits and what it answers by itself. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, createServer, request, type IncomingMessage, type Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, it } from 'vitest'
import { Front, type FrontLimits } from '../../src/local/front.ts'
import { freePort, until } from '../fixtures/stack.ts'

const HOST = '127.0.0.1'
const SHORT_MS = 700
/** Node looks for late requests once a second. */
const CHECK_MS = 1_000
const SLACK_MS = 1_500

let folder = ''
let upstream: Server
let numUpstreamConnections = 0
let seen: IncomingMessage[] = []
let numAborted = 0
let endHeld = (): unknown => undefined
let front: Front | null = null
let port = 0

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'arcana-front-'))
  numUpstreamConnections = 0
  numAborted = 0
  seen = []
  upstream = createServer((call, answer) => {
    seen.push(call)
    answer.on('close', () => {
      if (!answer.writableFinished) numAborted += 1
    })
    if (call.url === '/slow') {
      setTimeout(() => answer.end('late'), SHORT_MS * 3)
      call.resume()
    } else if (call.url === '/stream') {
      answer.write('one\n')
      setTimeout(() => answer.end('two\n'), SHORT_MS * 3)
    } else if (call.url === '/held') {
      endHeld = () => answer.end('late')
    } else if (call.url === '/early') {
      answer.writeHead(401).end('no')
    } else {
      let text = ''
      call.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      call.on('end', () => answer.setHeader('x-twice', ['a', 'b']).end(`${call.method}:${text}`))
    }
  })
  upstream.on('connection', () => {
    numUpstreamConnections += 1
  })
  upstream.listen(join(folder, 'socket'))
  await once(upstream, 'listening')
})
afterEach(async () => {
  front?.close()
  front = null
  upstream.closeAllConnections()
  upstream.close()
  await rm(folder, { recursive: true, force: true })
})

async function start(limits: Partial<FrontLimits> = {}): Promise<Front> {
  front = new Front(join(folder, 'socket'), limits)
  port = await freePort()
  await front.listen(port, HOST)
  return front
}

async function startOpen(limits: Partial<FrontLimits> = {}): Promise<void> {
  const started = await start(limits)
  started.open()
}

const open = async (): Promise<Socket> => {
  const socket = connect(port, HOST)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** Everything received until the end, and when it ended. */
async function rest(socket: Socket): Promise<{ text: string; ms: number }> {
  const startedAt = performance.now()
  let text = ''
  socket.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  await once(socket, 'close')
  return { text, ms: performance.now() - startedAt }
}

async function say(text: string): Promise<string> {
  const socket = await open()
  socket.write(text)
  return (await rest(socket)).text
}

const bodyOf = (answer: string): { error?: { code?: string; type?: string } } =>
  JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)) as { error?: { code?: string } }

describe('a request', () => {
  it('is passed on whole, and its answer comes back with every header', async ({ expect }) => {
    await startOpen()
    const answer = await fetch(`http://${HOST}:${port}/x?y=1`, {
      method: 'POST',
      body: 'hello',
      headers: { 'x-task': 'a*0.5', 'MF-CF-Blob': '{}', authorization: 'Bearer k' },
    })
    expect(await answer.text()).toBe('POST:hello')
    expect(answer.headers.get('x-twice')).toBe('a, b')
    expect(seen[0]!.url).toBe('/x?y=1')
    expect(seen[0]!.headers).toMatchObject({ 'x-task': 'a*0.5', authorization: 'Bearer k' })
    expect(seen[0]!.headers['mf-cf-blob']).toBeUndefined()
  })

  it('may wait for its answer, and for more of it, past every deadline', async ({ expect }) => {
    const limit = SHORT_MS
    await startOpen({
      headersTimeoutMs: limit,
      bodySilenceMs: limit,
      requestTimeoutMs: limit,
      keepAliveTimeoutMs: limit,
    })
    const call = (path: string) =>
      fetch(`http://${HOST}:${port}${path}`, { method: 'POST', body: 'x' })
    expect(await (await call('/slow')).text()).toBe('late')
    expect(await (await call('/stream')).text()).toBe('one\ntwo\n')
  })

  it('whose client disconnects ends at the gateway too', async ({ expect }) => {
    await startOpen()
    const controller = new AbortController()
    const call = fetch(`http://${HOST}:${port}/slow`, { signal: controller.signal })
    await until('it is there', () => seen.length === 1, SLACK_MS)
    controller.abort()
    await expect(call).rejects.toThrow()
    await until('it ended', () => numAborted === 1, SLACK_MS)
  })

  it('that waits for 100 Continue is told to go on at once', async ({ expect }) => {
    await startOpen()
    const call = request({
      host: HOST,
      port,
      path: '/v1/files',
      method: 'POST',
      headers: { expect: '100-continue', 'content-length': 5 },
    })
    const startedAt = performance.now()
    call.flushHeaders()
    await once(call, 'continue')
    // curl waits a second before it goes on by itself.
    expect(performance.now() - startedAt).toBeLessThan(SLACK_MS / 2)
    call.end('hello')
    const [answer] = (await once(call, 'response')) as [IncomingMessage]
    expect(answer.statusCode).toBe(200)
    expect(await new Response(Readable.toWeb(answer) as never).text()).toBe('POST:hello')
    expect(seen[0]!.headers['expect']).toBeUndefined()
  })

  it('with another expectation is served too', async ({ expect }) => {
    await startOpen()
    const call = request({ host: HOST, port, path: '/x', headers: { expect: 'kindness' } }).end()
    const [answer] = (await once(call, 'response')) as [IncomingMessage]
    expect(answer.statusCode).toBe(200)
    answer.resume()
  })

  it('from an allowed page gets readable answers from the front too', async ({ expect }) => {
    front = new Front(join(folder, 'socket'), {}, ['https://app.example'])
    port = await freePort()
    await front.listen(port, HOST)
    for (const [origin, allowed] of [
      ['https://app.example', 'https://app.example'],
      [`http://${HOST}:${port}`, `http://${HOST}:${port}`],
      ['https://evil.example', null],
    ] as const) {
      const answer = await fetch(`http://${HOST}:${port}/v1/models`, { headers: { origin } })
      expect(answer.status).toBe(503)
      expect(answer.headers.get('access-control-allow-origin')).toBe(allowed)
      expect(answer.headers.get('vary')).toBe('Origin')
    }
  })

  it('is answered 503 until the gateway is ready, and where it is gone', async ({ expect }) => {
    const started = await start()
    const early = await fetch(`http://${HOST}:${port}/healthz`)
    expect(early.status).toBe(503)
    expect(early.headers.get('retry-after')).toBe('1')
    expect(await early.json()).toMatchObject({ error: { code: 'not_ready', type: 'server_error' } })
    started.open()
    expect((await fetch(`http://${HOST}:${port}/healthz`)).status).toBe(200)
    upstream.closeAllConnections()
    upstream.close()
    expect((await fetch(`http://${HOST}:${port}/healthz`)).status).toBe(503)
  })

  it('uses kept connections', async ({ expect }) => {
    await startOpen()
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let at = 0; at < 20; at++) {
      const call = request({ host: HOST, port, path: '/', agent }).end()
      const [answer] = (await once(call, 'response')) as [IncomingMessage]
      answer.resume()
      await once(answer, 'end')
    }
    agent.destroy()
    expect(numUpstreamConnections).toBe(1)
  })
})

describe('a connection', () => {
  it.for([
    ['says nothing', ''],
    ['sends half a header', 'GET / HTTP/1.1\r\nhost: x\r\nx-a'],
  ] as const)('that %s is closed, unseen by the gateway', async ([, text], { expect }) => {
    await startOpen({ headersTimeoutMs: SHORT_MS })
    const socket = await open()
    socket.write(text)
    const { ms } = await rest(socket)
    expect(ms).toBeGreaterThan(SHORT_MS - 50)
    expect(ms).toBeLessThan(SHORT_MS + CHECK_MS + SLACK_MS)
    expect(numUpstreamConnections).toBe(0)
  })

  it('that drips its headers is closed too', async ({ expect }) => {
    await startOpen({ headersTimeoutMs: SHORT_MS })
    const socket = await open()
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n')
    const timer = setInterval(() => socket.write('x-a: b\r\n'), 50)
    const { ms, text } = await rest(socket)
    clearInterval(timer)
    expect(ms).toBeLessThan(SHORT_MS + CHECK_MS + SLACK_MS)
    expect(bodyOf(text)).toMatchObject({ error: { code: 'request_timeout' } })
  })

  it('that stops in its body is answered 408 and closed', async ({ expect }) => {
    await startOpen({ bodySilenceMs: SHORT_MS })
    const socket = await open()
    socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab')
    const { text, ms } = await rest(socket)
    expect(text).toMatch(/^HTTP\/1\.1 408 /)
    expect(ms).toBeLessThan(SHORT_MS + SLACK_MS)
    await until('the gateway was told', () => numAborted === 1, SLACK_MS)
  })

  it('that drips its body has a deadline for the whole', async ({ expect }) => {
    await startOpen({ headersTimeoutMs: SHORT_MS, requestTimeoutMs: SHORT_MS * 2 })
    const socket = await open()
    socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n')
    const timer = setInterval(() => socket.write('x'), 50)
    const { text, ms } = await rest(socket)
    clearInterval(timer)
    expect(text).toMatch(/^HTTP\/1\.1 408 /)
    expect(ms).toBeLessThan(SHORT_MS * 2 + CHECK_MS + SLACK_MS)
  })

  it('that is answered early and sends on is closed soon', async ({ expect }) => {
    await startOpen()
    const socket = await open()
    socket.write('POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n')
    const { text, ms } = await rest(socket)
    expect(text).toMatch(/^HTTP\/1\.1 401 /)
    expect(ms).toBeLessThan(2_000 + SLACK_MS)
  })

  it('is kept between requests for a while, then closed', async ({ expect }) => {
    await startOpen({ keepAliveTimeoutMs: SHORT_MS })
    const socket = await open()
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    await sleep(SHORT_MS / 2)
    expect(socket.destroyed).toBe(false)
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    const { text } = await rest(socket)
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(2)
  })
})

describe('thousands of connections', () => {
  it('of one peer leave its limit of them, and a request gets through', async ({ expect }) => {
    const limit = 200
    await startOpen({ maxConnectionsPerPeer: limit })
    // One whose answer is pending is never closed to make room.
    const pending = fetch(`http://${HOST}:${port}/held`)
    await until('it is there', () => seen.length === 1, SLACK_MS)
    const sockets: Socket[] = []
    for (let at = 0; at < 2_000; at++) sockets.push(await open())
    const isOpen = () => sockets.filter((socket) => !socket.destroyed).length
    for (const socket of sockets) socket.resume()
    await until('the others are closed', () => isOpen() < limit, 5_000)
    expect(isOpen()).toBeGreaterThan(limit - 10)
    expect((await fetch(`http://${HOST}:${port}/`)).status).toBe(200)
    endHeld()
    expect(await (await pending).text()).toBe('late')
    expect(numUpstreamConnections).toBeLessThan(5)
    for (const socket of sockets) socket.destroy()
  })
})

describe('what is not valid HTTP', () => {
  it.for([
    [
      'two lengths',
      'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab',
    ],
    [
      'a length and chunks',
      'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'an unknown transfer coding',
      'POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'a bad chunk size',
      'POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n',
    ],
    ['a bare word', 'hello\r\n\r\n'],
  ] as const)('is answered 400 in OpenAI’s shape: %s', async ([, text], { expect }) => {
    await startOpen()
    const answer = await say(text)
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(bodyOf(answer)).toMatchObject({
      error: { type: 'invalid_request_error', code: 'invalid_http' },
    })
  })

  it.for(['OPTIONS *', 'GET http://other/v1/models'])(
    'nor is a target that is no path: %s',
    async (target, { expect }) => {
      await startOpen()
      const answer = await say(`${target} HTTP/1.1\r\nhost: x\r\n\r\n`)
      expect(answer).toMatch(/^HTTP\/1\.1 400 /)
      expect(bodyOf(answer)).toMatchObject({ error: { code: 'invalid_request_target' } })
      expect(seen).toEqual([])
    },
  )
})
