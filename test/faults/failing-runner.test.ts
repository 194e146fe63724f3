/**
 * Two runners behind the real gateway, of which one admits every generation and then breaks it off.
 * Both are one real runner; a proxy in front of the second does the breaking, and notes when it was
 * asked.
 */
import { once } from 'node:events'
import { createServer, request as requestOf, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { circuitOpenMs } from '../../src/dispatch/circuit-breaker.ts'
import { BASE_MODEL } from '../fixtures/api.ts'
import { startGatewayProcess, type GatewayProcess } from '../fixtures/gateway-process.ts'
import { startRunnerProcess, type RunnerProcess } from '../fixtures/runner-process.ts'
import { until } from '../fixtures/stack.ts'

const NUM_CALLERS = 3
const CHAOS_MS = 6_000
/** Tolerance for the clocks of two processes, and the time between them. */
const SLACK_MS = 30
/** The longest time that a circuit stays open. */
const REPAIR_TIMEOUT_MS = 15_000

let runner: RunnerProcess
let gateway: GatewayProcess
let proxy: Server
let isBreaking = false
/** Times at which the proxy received a generation. */
const askedAtMs: number[] = []

beforeAll(async () => {
  runner = await startRunnerProcess()
  proxy = createServer((request, response) => {
    const isGeneration = request.url === '/v1/generate'
    if (isGeneration) askedAtMs.push(performance.now())
    const { method, headers } = request
    const passed = requestOf(new URL(request.url!, runner.url), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.on('data', (chunk: Buffer) => {
        if (!isGeneration || !isBreaking) response.write(chunk)
        else response.write(chunk, () => response.destroy())
      })
      answer.on('end', () => response.end())
      answer.on('error', () => response.destroy())
    })
    passed.on('error', () => response.destroy())
    response.on('close', () => passed.destroy())
    request.pipe(passed)
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const { port } = proxy.address() as AddressInfo
  gateway = await startGatewayProcess([`http://127.0.0.1:${port}`, runner.url], runner.secret)
})
afterAll(async () => {
  await gateway.stop()
  proxy.closeAllConnections()
  proxy.close()
  await runner.stop()
})

async function chat(): Promise<number> {
  const response = await fetch(`${gateway.baseUrl}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      model: BASE_MODEL,
      messages: [{ role: 'user', content: 'Hi' }],
      max_tokens: 4,
      temperature: 0,
    }),
  })
  await response.arrayBuffer()
  return response.status
}

describe('a runner that fails every generation after admission', () => {
  it('gets at most three of them, and then one each time its circuit is half-open', async ({
    expect,
  }) => {
    // The first run is slow, and the callers have to begin together.
    await Promise.all(Array.from({ length: 2 * NUM_CALLERS }, chat))
    askedAtMs.length = 0
    isBreaking = true
    const statuses: number[] = []
    const endMs = performance.now() + CHAOS_MS
    const caller = async () => {
      while (performance.now() < endMs) statuses.push(await chat())
    }
    await Promise.all(Array.from({ length: NUM_CALLERS }, caller))

    const numFailed = statuses.filter((status) => status !== 200).length
    expect(statuses.filter((status) => status === 502)).toHaveLength(numFailed)
    expect(numFailed).toBe(askedAtMs.length)
    const [first] = askedAtMs
    const opened = askedAtMs.filter((atMs) => atMs < first! + circuitOpenMs(2))
    expect(opened.length).toBeGreaterThanOrEqual(2)
    expect(opened.length).toBeLessThanOrEqual(NUM_CALLERS)
    const probes = askedAtMs.slice(opened.length - 1)
    expect(probes.length).toBeGreaterThan(2)
    for (const [i, atMs] of probes.slice(1).entries()) {
      expect(atMs - probes[i]!).toBeGreaterThan(circuitOpenMs(2 + i) - SLACK_MS)
    }
    expect(statuses.length - numFailed).toBeGreaterThan(numFailed)
  }, 60_000)

  it('gets them again once a probe is answered', async ({ expect }) => {
    isBreaking = false
    const numBefore = askedAtMs.length
    await until(
      'calls to the runner that was mended',
      async () => {
        expect(await chat()).toBe(200)
        return askedAtMs.length > numBefore + 2
      },
      REPAIR_TIMEOUT_MS,
    )
  }, 60_000)
})
