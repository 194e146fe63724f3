import type { IncomingMessage, ServerResponse } from 'node:http'
import { RunnerFault } from '../runner-fault.ts'

/** @throws {RunnerFault} invalid_request where the body is over the limit */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBytes)
      throw new RunnerFault('invalid_request', `the body is over ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return new Uint8Array(Buffer.concat(chunks))
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    throw new RunnerFault('invalid_request', 'the body is not JSON')
  }
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body)
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  })
  response.end(text)
}

export function sendFault(response: ServerResponse, fault: RunnerFault): void {
  const { retry_after_seconds: seconds } = fault.details
  if (seconds !== undefined) response.setHeader('retry-after', seconds)
  sendJson(response, fault.status, { error: fault.toWire() })
}
