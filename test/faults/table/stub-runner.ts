/**
 * A runner node as a process that misbehaves on command. It holds no model. `PUT /control` names the
 * fault, which lasts until the next; `GET /control` says what became of generations.
 * It says `{"event":"ready","port":…}` and ends when its standard input closes.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  GENERATE_FAULTS,
  STATUS_FAULTS,
  type Fault,
  type GenerateFault,
  type StatusFault,
} from './stub-faults.ts'
import { STATUS } from '../../fixtures/stub-status.ts'

export type StubReport = {
  /** Generations whose answer is neither ended nor broken off. */
  readonly numOpen: number
  readonly numGenerations: number
  /** When a generation was last over; milliseconds since the epoch. */
  readonly lastClosedAtMs: number
}

let fault: Fault = 'none'
let numOpen = 0
let numGenerations = 0
let lastClosedAtMs = 0

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const isGeneration = request.url === '/v1/generate'
  if (isGeneration) {
    numGenerations += 1
    numOpen += 1
    response.once('close', () => {
      numOpen -= 1
      lastClosedAtMs = Date.now()
    })
  }
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  const sent = Buffer.concat(parts).toString()
  if (request.url === '/control') {
    if (request.method === 'PUT') fault = sent as Fault
    const report: StubReport = { numOpen, numGenerations, lastClosedAtMs }
    response.end(JSON.stringify(report))
  } else if (fault === 'no answer to anything') {
    return
  } else if (request.url === '/v1/status') {
    response.setHeader('content-type', 'application/json')
    if (fault in STATUS_FAULTS) await STATUS_FAULTS[fault as StatusFault](response, sent)
    else response.end(JSON.stringify(STATUS))
  } else if (isGeneration) {
    response.setHeader('content-type', 'application/x-ndjson')
    const name = fault in GENERATE_FAULTS ? (fault as GenerateFault) : 'none'
    await GENERATE_FAULTS[name](response, sent)
  } else {
    response.writeHead(404).end()
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy())
}).listen(Number(process.env['STUB_PORT']), '127.0.0.1', () => {
  console.log(JSON.stringify({ event: 'ready', port: (server.address() as AddressInfo).port }))
})
process.stdin.resume().on('end', () => process.exit())
