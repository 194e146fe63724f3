/**
 * A server process under measurement. It gets token ids and streams tokens back over HTTP on
 * loopback. One client in this process asks all targets and takes all times.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'

/** How long a server may take to start. */
const READY_TIMEOUT_MS = 120_000
const MAX_KEPT_LOG_LEN = 16_000

/** One request, by this process's clock. */
export type Generation = {
  readonly startMs: number
  /** Arrival time of each token, per arm. */
  readonly tokenMs: readonly (readonly number[])[]
  readonly ids: readonly (readonly number[])[]
}

export type GenerateOptions = {
  /** Number of tokens to generate; the end-of-turn token is banned, so exactly as many arrive. */
  readonly numTokens: number
  /** Arcana only: digests of adapters, an arm each; absent is one arm of the base model. */
  readonly adapters?: readonly string[]
  /** Arcana only: prompts of one tenant share their KV. */
  readonly tenant?: string
}

export interface Target {
  readonly name: string
  /** Time from its spawn until it listened. */
  readonly listenMs: number
  /** Greedy. Only a request with a tenant uses the cache of earlier prompts. */
  generate(prompt: readonly number[], options: GenerateOptions): Promise<Generation>
  /** Peak memory of the process, in MiB. */
  peakMemoryMib(): Promise<number>
  stop(): Promise<void>
}

export type ServerProcess = {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>
  /** The line of standard output that says it listens, parsed. */
  readonly ready: { readonly url?: string; readonly port?: number }
  readonly listenMs: number
}

/**
 * Starts a program that prints one JSON line once it listens and ends when its input closes.
 * @throws {Error} it ended, or was not ready in time; with what it wrote
 */
export async function startServer(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<ServerProcess> {
  const spawnedMs = performance.now()
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-MAX_KEPT_LOG_LEN)
  })
  const line = await new Promise<string>((resolve, reject) => {
    const fail = (why: string): void => {
      clearTimeout(timer)
      child.kill('SIGKILL')
      reject(new Error(`${command} ${args[0] ?? ''} ${why}\n${log}`))
    }
    const timer = setTimeout(() => {
      fail('was not ready in time')
    }, READY_TIMEOUT_MS)
    child.once('error', (error) => {
      fail(error.message)
    })
    child.once('exit', (code) => {
      fail(`ended with ${code ?? 'a signal'}`)
    })
    createInterface({ input: child.stdout }).on('line', (text) => {
      if (!text.startsWith('{')) return
      clearTimeout(timer)
      child.removeAllListeners('exit')
      resolve(text)
    })
  })
  const ready = JSON.parse(line) as ServerProcess['ready']
  return { child, ready, listenMs: performance.now() - spawnedMs }
}

export async function stopServer({ child }: ServerProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.stdin.end()
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000)
  await ended
  clearTimeout(timer)
}

/** VmHWM: pages of mapped files count as they are touched. Linux only. */
export async function peakMemoryMib({ child }: ServerProcess): Promise<number> {
  const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
  const [, kib] = /VmHWM:\s+(\d+) kB/.exec(status) ?? []
  if (kib === undefined) throw new Error('no VmHWM in /proc')
  return Number(kib) / 1024
}

/** Posts JSON and hands each line of the answer on as its chunk arrives. */
export async function postLines(
  url: string,
  body: unknown,
  headers: Record<string, string>,
  onLine: (line: string, nowMs: number) => void,
): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`)
  let rest = ''
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const nowMs = performance.now()
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const line of lines) if (line !== '') onLine(line, nowMs)
  }
}
