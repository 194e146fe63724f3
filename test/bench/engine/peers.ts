/**
 * llama.cpp, packaged twice: its server in PyPI's xllamacpp, and npm's node-llama-cpp. Both are
 * installed here, under .arcana/bench, in these versions; neither is a dependency of the project.
 */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { freePort } from '../../fixtures/stack.ts'
import { installOnce } from '../peers/install-once.ts'
import {
  peakMemoryMib,
  postLines,
  startServer,
  stopServer,
  type Generation,
  type ServerProcess,
  type Target,
} from './target.ts'

const run = promisify(execFile)
const beside = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

const XLLAMACPP = 'xllamacpp==2026.10.11549'
const NODE_LLAMA_CPP = '3.22.1'
const INSTALL_TIMEOUT_MS = 240_000
const HEALTH_INTERVAL_MS = 10

/** Settings of one llama.cpp server; in all of them KV is f16 and the prompt cache off. */
export type PeerSettings = {
  readonly model: string
  readonly slots: number
  /** Tokens a slot holds. */
  readonly context: number
  /** Tokens of a call, and of a piece of it that is computed at once. */
  readonly batch: number
  readonly ubatch: number
  readonly threads: number
  readonly flash: boolean
}

const SETTINGS = { slots: 16, context: 1024, batch: 2048, ubatch: 512, threads: 2 } as const

export type Peer = { readonly name: string; start(model: string): Promise<Target> }

/** The available peers; for each unavailable one, one line says why. */
export async function installPeers(): Promise<Peer[]> {
  const peers: Peer[] = []
  for (const [name, install] of [
    ['xllamacpp', installXllamacpp],
    ['node-llama-cpp', installNodeLlamaCpp],
  ] as const) {
    try {
      const start = await install()
      for (const flash of [true, false]) {
        const variant = `${name} ${flash ? 'flash' : 'plain'}`
        peers.push({
          name: variant,
          start: (model) => start(variant, { ...SETTINGS, model, flash }),
        })
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      console.log(JSON.stringify({ peer: name, skipped: `cannot be installed: ${reason}` }))
    }
  }
  return peers
}

type Start = (name: string, settings: PeerSettings) => Promise<Target>

async function installXllamacpp(): Promise<Start> {
  const folder = await installOnce(XLLAMACPP.replace('==', '-'), async (into) => {
    await run('python3', ['-m', 'venv', into], { timeout: INSTALL_TIMEOUT_MS })
    await run(path.join(into, 'bin', 'python'), ['-m', 'pip', 'install', '--quiet', XLLAMACPP], {
      timeout: INSTALL_TIMEOUT_MS,
    })
  })
  return async (name, settings) => {
    const json = JSON.stringify({ ...settings, port: await freePort() })
    const server = await startServer(path.join(folder, 'bin', 'python'), [
      beside('./xllamacpp-server.py'),
      json,
    ])
    const url = server.ready.url!
    await untilHealthy(`${url}/health`)
    return asTarget(name, server, async (prompt, numTokens, onToken) => {
      const wire = {
        prompt,
        n_predict: numTokens,
        temperature: 0,
        // Greedy reads the logits as they are: no sampler that would sort them first.
        samplers: ['temperature'],
        ignore_eos: true,
        cache_prompt: false,
        stream: true,
        return_tokens: true,
      }
      await postLines(`${url}/completion`, wire, {}, (line, nowMs) => {
        const { tokens = [] } = JSON.parse(line.replace(/^data: /, '')) as { tokens?: number[] }
        for (const id of tokens) onToken(id, nowMs)
      })
    })
  }
}

async function installNodeLlamaCpp(): Promise<Start> {
  const binaries = `@node-llama-cpp/${process.platform}-${process.arch}`
  const folder = await installOnce(`node-llama-cpp-${NODE_LLAMA_CPP}`, async (into) => {
    await mkdir(into, { recursive: true })
    const dependencies = { 'node-llama-cpp': NODE_LLAMA_CPP, [binaries]: NODE_LLAMA_CPP }
    const manifest = { private: true, type: 'module', dependencies }
    await writeFile(path.join(into, 'package.json'), JSON.stringify(manifest))
    // No scripts, so that nothing is downloaded or compiled outside npm; no GPU binaries.
    const args = ['install', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund']
    await run('npm', args, { cwd: into, timeout: INSTALL_TIMEOUT_MS })
  })
  return async (name, settings) => {
    const server = await startServer(process.execPath, [
      beside('./node-llama-cpp-server.ts'),
      path.join(folder, 'node_modules', 'node-llama-cpp'),
      JSON.stringify(settings),
    ])
    const url = `http://127.0.0.1:${server.ready.port!}`
    return asTarget(name, server, (prompt, numTokens, onToken) =>
      postLines(url, { prompt, num_tokens: numTokens }, {}, (line, nowMs) => {
        onToken(Number(line), nowMs)
      }),
    )
  }
}

async function untilHealthy(url: string): Promise<void> {
  for (;;) {
    const isHealthy = await fetch(url).then(
      (response) => response.ok,
      () => false,
    )
    if (isHealthy) return
    await new Promise((resolve) => setTimeout(resolve, HEALTH_INTERVAL_MS))
  }
}

function asTarget(
  name: string,
  server: ServerProcess,
  ask: (
    prompt: readonly number[],
    numTokens: number,
    onToken: (id: number, nowMs: number) => void,
  ) => Promise<void>,
): Target {
  return {
    name,
    listenMs: server.listenMs,
    async generate(prompt, { numTokens }): Promise<Generation> {
      const tokenMs: number[] = []
      const ids: number[] = []
      const startMs = performance.now()
      await ask(prompt, numTokens, (id, nowMs) => {
        ids.push(id)
        tokenMs.push(nowMs)
      })
      if (ids.length !== numTokens)
        throw new Error(`${name} gave ${ids.length} of ${numTokens} tokens`)
      return { startMs, tokenMs: [tokenMs], ids: [ids] }
    },
    peakMemoryMib: () => peakMemoryMib(server),
    stop: () => stopServer(server),
  }
}
