/**
 * Opens 8,000 connections to the real stack that send nothing, or a byte now and then; first from
 * one address, then from eight. Prints the memory of the front's process and of workerd before,
 * while they are open and 40 s later, the number of connections still open, and the longest wait of
 * a caller in the meantime.
 * `npm run bench -- connections [--count N]`
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { memoryOf } from '../fixtures/runner-process.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'
import { Caller } from './hostile/caller.ts'

const NUM_PEERS = 8
const DRIP_MS = 2_000
const ASK_INTERVAL_MS = 100
/** Past every deadline of a connection that has not said what it wants. */
const HELD_MS = 40_000
const HEAD = 'POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\nx: '

type Kind = 'idle' | 'dripping'

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { count: { type: 'string', default: '8000' } },
  })
  for (const numPeers of [1, NUM_PEERS]) {
    for (const kind of ['idle', 'dripping'] as const) {
      const stack = await startStack()
      try {
        console.log(JSON.stringify(await attack(stack, kind, numPeers, Number(values.count))))
      } finally {
        await stack.stop()
      }
    }
  }
}

async function attack(stack: Stack, kind: Kind, numPeers: number, count: number) {
  const { gateway, workerd } = await stack.pids()
  const memory = () => ({
    front_mib: memoryOf(gateway).rss_mib,
    workerd_mib: memoryOf(workerd).rss_mib,
  })
  const caller = new Caller(stack, '/v1/models', ASK_INTERVAL_MS)
  await sleep(3_000)
  const before = { ...memory(), longest_wait_ms: caller.takeLongestMs() }
  const sockets: Socket[] = []
  for (let i = 0; i < count; i++) {
    sockets.push(open(stack.port, kind, `127.0.0.${2 + (i % numPeers)}`))
    if (i % 100 === 99) await sleep(20)
  }
  await sleep(1_000)
  const during = {
    ...memory(),
    num_open: numOpen(sockets),
    longest_wait_ms: caller.takeLongestMs(),
  }
  await sleep(HELD_MS)
  const after = { ...memory(), num_open: numOpen(sockets), longest_wait_ms: caller.takeLongestMs() }
  for (const socket of sockets) socket.destroy()
  await caller.stop()
  return { kind, connections: count, peer_addresses: numPeers, before, during, after }
}

function open(port: number, kind: Kind, localAddress: string): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  socket.on('error', () => undefined)
  // A socket reports its end only if it is read.
  socket.resume()
  if (kind === 'dripping') {
    socket.write(HEAD)
    const timer = setInterval(() => socket.write('a'), DRIP_MS)
    socket.on('close', () => {
      clearInterval(timer)
    })
  }
  return socket
}

const numOpen = (sockets: readonly Socket[]): number =>
  sockets.filter(({ readyState }) => readyState === 'open').length
