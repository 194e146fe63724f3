import {
  Agent,
  createServer,
  request as requestOf,
  type ClientRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ApiError } from '../protocol/openai/error.ts'
import { allowedOrigin, originHeaders } from '../protocol/origins.ts'
import { listenOnPort } from './private-listeners.ts'

export interface FrontLimits {
  /**
   * How long a request's headers may take, from the start of the connection or the request's first
   * byte.
   */
  readonly headersTimeoutMs: number
  /** How long a client may be silent within a body that the gateway is ready to read. */
  readonly bodySilenceMs: number
  /** How long a whole request, with its body, may take to arrive. */
  readonly requestTimeoutMs: number
  /** How long a connection may be idle between an answer and the next request. */
  readonly keepAliveTimeoutMs: number
  /** How long a client may leave its answer unread. */
  readonly unreadAnswerMs: number
  /** How many connections one peer address may have. */
  readonly maxConnectionsPerPeer: number
}

export const FRONT_LIMITS: FrontLimits = {
  headersTimeoutMs: 30_000,
  bodySilenceMs: 30_000,
  requestTimeoutMs: 300_000,
  // Official clients close idle connections sooner, so they never send a request into a closing one.
  keepAliveTimeoutMs: 30_000,
  unreadAnswerMs: 60_000,
  maxConnectionsPerPeer: 1024,
}

/** How often Node looks for requests that have timed out. */
const CHECK_INTERVAL_MS = 1_000
/** A client that is still sending when it gets its answer may read it for this long. */
const LINGER_MS = 2_000
/** workerd closes a silent connection after 5 s, so the front must close it before that. */
const UPSTREAM_IDLE_MS = 3_000
const RETRY_AFTER_SECONDS = 1
/** Headers that belong to one connection and are not passed on (RFC 9110, 7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  // Node's server answers it.
  'expect',
])
/** Miniflare trusts headers with this prefix, so no client may send them. */
const INTERNAL_PREFIX = 'mf-'

type Peer = { num: number; readonly waiting: Set<Socket> }
type Pending = { readonly response: ServerResponse; readonly upstream: ClientRequest | null }

/**
 * Listens on the gateway's port and passes requests on to workerd, which has no such limits: a
 * connection that sends nothing, or sends it too slowly, does not get to workerd.
 */
export class Front {
  readonly #server: Server
  readonly #socketPath: string
  readonly #limits: FrontLimits
  readonly #allowedOrigins: readonly string[]
  readonly #agent = new Agent({ keepAlive: true, timeout: UPSTREAM_IDLE_MS, scheduling: 'lifo' })
  readonly #pending = new WeakMap<Duplex, Pending>()
  /**
   * For each peer, how many connections it has, and those that owe us bytes, the longest silent
   * first.
   */
  readonly #peers = new Map<string, Peer>()
  #isOpen = false

  /** @param allowedOrigins the gateway's: their pages may read the front's own answers too */
  constructor(
    socketPath: string,
    limits: Partial<FrontLimits> = {},
    allowedOrigins: readonly string[] = [],
  ) {
    this.#socketPath = socketPath
    this.#allowedOrigins = allowedOrigins
    this.#limits = { ...FRONT_LIMITS, ...limits }
    this.#server = createServer({
      headersTimeout: this.#limits.headersTimeoutMs,
      requestTimeout: this.#limits.requestTimeoutMs,
      keepAliveTimeout: this.#limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
    })
    this.#server.on('connection', (socket) => {
      this.#admit(socket)
    })
    this.#server.on('request', (request, response) => {
      this.#handle(request, response)
    })
    // Node answers 100 Continue itself. It would refuse any other expectation with an empty 417.
    this.#server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
      this.#handle(request, response)
    })
    this.#server.on('clientError', (error, socket) => {
      this.#refuseUnparsed(error, socket)
    })
  }

  /** Listens on a port. Requests get a 503 until `open`. */
  listen(port: number, host: string): Promise<void> {
    return listenOnPort(this.#server, port, host)
  }

  /** Lets requests through to the gateway from now on. */
  open(): void {
    this.#isOpen = true
  }

  close(): void {
    this.#isOpen = false
    this.#server.close()
    this.#server.closeAllConnections()
    this.#agent.destroy()
  }

  /**
   * Admits a connection. If its peer has too many, the one that has been silent longest is closed,
   * so that a client with many idle connections does not lock out others behind the same address.
   */
  #admit(socket: Socket): void {
    const address = socket.remoteAddress ?? ''
    const peer: Peer = this.#peers.get(address) ?? { num: 0, waiting: new Set() }
    this.#peers.set(address, peer)
    peer.num += 1
    socket.once('close', () => {
      peer.num -= 1
      peer.waiting.delete(socket)
      if (peer.num === 0) this.#peers.delete(address)
    })
    if (peer.num > this.#limits.maxConnectionsPerPeer) {
      const [silent] = peer.waiting
      if (silent === undefined) {
        socket.destroy()
        return
      }
      peer.waiting.delete(silent)
      silent.destroy()
    }
    peer.waiting.add(socket)
  }

  /** Notes whether a connection owes us bytes. If not, we owe it an answer. */
  #setWaiting(socket: Socket, isWaiting: boolean): void {
    const waiting = this.#peers.get(socket.remoteAddress ?? '')?.waiting
    waiting?.delete(socket)
    if (isWaiting && !socket.destroyed) waiting?.add(socket)
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    if (!this.#isOpen) {
      this.#answerWith(response, notReady())
      return
    }
    if (request.url?.startsWith('/') !== true) {
      const message = 'The request target must be a path.'
      this.#answerWith(response, new ApiError(400, message, { code: 'invalid_request_target' }))
      return
    }
    const hasBody =
      request.headers['transfer-encoding'] !== undefined ||
      Number(request.headers['content-length'] ?? 0) > 0
    const upstream = this.#pass(request, response, hasBody, true)
    this.#pending.set(socket, { response, upstream })
    if (hasBody) {
      this.#watchBody(request, response, upstream)
      // The gateway may answer as soon as it has the headers.
      upstream.flushHeaders()
      request.pipe(upstream)
    } else {
      this.#setWaiting(socket, false)
      upstream.end()
    }
    response.on('close', () => {
      this.#pending.delete(socket)
      if (!response.writableFinished) upstream.destroy()
    })
    response.on('finish', () => {
      this.#setWaiting(socket, true)
      if (!request.complete) endAfterAnswer(request, upstream)
    })
  }

  #pass(
    request: IncomingMessage,
    response: ServerResponse,
    hasBody: boolean,
    mayRepeat: boolean,
  ): ClientRequest {
    const headers = passedOn(request)
    if (request.headers['transfer-encoding'] !== undefined) {
      headers.push('transfer-encoding', 'chunked')
    }
    const upstream = requestOf({
      socketPath: this.#socketPath,
      agent: this.#agent,
      method: request.method,
      path: request.url,
      headers,
    })
    upstream.on('response', (answer) => {
      this.#relay(answer, response)
    })
    upstream.on('error', (error: NodeJS.ErrnoException) => {
      if (response.headersSent) {
        response.destroy()
      } else if (mayRepeat && !hasBody && upstream.reusedSocket && error.code === 'ECONNRESET') {
        // workerd closed the idle connection at that very moment.
        const second = this.#pass(request, response, hasBody, false)
        this.#pending.set(request.socket, { response, upstream: second })
        second.end()
      } else if (!response.destroyed) {
        this.#answerWith(response, notReady())
      }
    })
    return upstream
  }

  #relay(answer: IncomingMessage, response: ServerResponse): void {
    if (response.destroyed || response.headersSent) {
      answer.destroy()
      return
    }
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, passedOn(answer))
    // The first event of a stream may take long, and the headers need not wait for it.
    response.flushHeaders()
    let stalled: NodeJS.Timeout | null = null
    answer.on('data', (chunk: Buffer) => {
      if (response.write(chunk)) return
      answer.pause()
      stalled ??= setTimeout(() => response.destroy(), this.#limits.unreadAnswerMs)
      response.once('drain', () => {
        if (stalled) clearTimeout(stalled)
        stalled = null
        answer.resume()
      })
    })
    answer.on('end', () => {
      response.end()
    })
    answer.on('error', () => {
      response.destroy()
    })
    response.once('close', () => {
      if (stalled) clearTimeout(stalled)
    })
  }

  #watchBody(request: IncomingMessage, response: ServerResponse, upstream: ClientRequest): void {
    const { socket } = request
    const { bodySilenceMs } = this.#limits
    socket.setTimeout(bodySilenceMs)
    request.on('data', () => {
      this.#setWaiting(socket, true)
    })
    request.on('timeout', () => {
      if (upstream.writableNeedDrain) {
        // The gateway has stopped reading, so the client is not to blame.
        socket.setTimeout(bodySilenceMs)
        return
      }
      if (response.headersSent) response.destroy()
      else this.#answerWith(response, tooSlow())
      upstream.destroy()
    })
    request.on('end', () => {
      socket.setTimeout(0)
      if (!response.writableFinished) this.#setWaiting(socket, false)
    })
  }

  #answerWith(response: ServerResponse, error: ApiError): void {
    const isLate = error.code === 'request_timeout'
    const body = JSON.stringify(error.toBody())
    const { origin, host } = response.req.headers
    const headers = originHeaders(allowedOrigin(origin, host, this.#allowedOrigins))
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
    if (error.retryAfterSeconds !== null) {
      response.setHeader('retry-after', String(error.retryAfterSeconds))
    }
    response.writeHead(isLate ? 408 : error.status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      connection: 'close',
    })
    response.end(body)
  }

  /** Answers a request that Node's parser refuses, or that does not arrive in time. */
  #refuseUnparsed(error: NodeJS.ErrnoException, socket: Duplex): void {
    const pending = this.#pending.get(socket)
    pending?.upstream?.destroy()
    if (!socket.writable || pending?.response.headersSent === true) {
      socket.destroy()
      return
    }
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
      socket.end(rawAnswer('408 Request Timeout', tooSlow()), () => socket.destroy())
      return
    }
    const isLong = error.code === 'HPE_HEADER_OVERFLOW'
    const refusal = isLong
      ? new ApiError(400, 'The request headers are too long.', { code: 'headers_too_long' })
      : new ApiError(400, 'The request is not valid HTTP.', { code: 'invalid_http' })
    const status = isLong ? '431 Request Header Fields Too Large' : '400 Bad Request'
    socket.end(rawAnswer(status, refusal), () => socket.destroy())
  }
}

/** Whether something accepts connections on a unix socket. */
export function isListening(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => {
      resolve(false)
    })
  })
}

const notReady = () =>
  new ApiError(503, 'The gateway is starting. Try again in a moment.', {
    code: 'not_ready',
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  })

const tooSlow = () =>
  new ApiError(400, 'The request did not arrive in time.', { code: 'request_timeout' })

/** The headers to pass on, as names and values in turn, without those of the connection. */
function passedOn({ rawHeaders, headers }: IncomingMessage): string[] {
  const named = (headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase())
  const kept: string[] = []
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase()
    if (HOP_BY_HOP.has(name) || name.startsWith(INTERNAL_PREFIX) || named.includes(name)) continue
    kept.push(rawHeaders[at]!, rawHeaders[at + 1]!)
  }
  return kept
}

function rawAnswer(status: string, error: ApiError): string {
  const body = JSON.stringify(error.toBody())
  return (
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`
  )
}

/** Ends a request that got its answer before it was complete, as for a wrong key or a large body. */
function endAfterAnswer(request: IncomingMessage, upstream: ClientRequest): void {
  request.unpipe(upstream)
  request.resume()
  const timer = setTimeout(() => request.socket.destroy(), LINGER_MS)
  request.once('end', () => {
    clearTimeout(timer)
  })
  request.once('close', () => {
    clearTimeout(timer)
  })
}
