/**
 * `npm start` runs the whole of Arcana on this machine. It supervises its children, the gateway's
 * host (Miniflare with workerd) and the runners. All end with this process, by a pipe on their
 * standard input. It prints one line on standard output when it answers requests, and all else on
 * standard error.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { hashKey, readOrCreateKey } from './api-key.ts'
import { displayPath, homePaths, readLocalConfig, type LocalConfig } from './config.ts'
import type { GatewayHostOptions } from './gateway-host.ts'
import { lockHome } from './home-lock.ts'
import { KeptChild } from './kept-child.ts'
import { endLeftoverWorkerd } from './leftover.ts'
import { chooseSocketDir, makePrivate, OWNER_ONLY_UMASK } from './private-home.ts'
import { findFreePorts, waitForPort } from './ports.ts'
import { LOCAL_HOST } from './worker-options.ts'

/** A predecessor that was just killed may hold the port for this long. */
const PORT_TIMEOUT_MS = 3_000
/** A second request to stop that comes after this time kills the children. */
const SECOND_REQUEST_MS = 500
const RUNNER_SECRET_BYTES = 32
/** How often to check whether npm, which started this process, still runs. */
const PARENT_POLL_MS = 500

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const GATEWAY_HOST = fileURLToPath(new URL('./gateway-host.ts', import.meta.url))
const RUNNER = fileURLToPath(new URL('../../gpu-runner/main.ts', import.meta.url))

/** `npm start` cannot work. The message is for the person who typed it. */
class StartError extends Error {}

async function main(): Promise<void> {
  const config = readLocalConfig(process.env)
  const paths = homePaths(config.home)
  await mkdir(paths.run, { recursive: true })
  const numMended = await makePrivate(config.home)
  if (numMended > 0) {
    log(
      `other users of this machine could read ${numMended} files and folders in ` +
        `${displayPath(config.home)}; now only you can`,
    )
  }
  const unlock = lockHome(paths.lock)
  if (!unlock) {
    throw new StartError(
      `another \`npm start\` is using ${displayPath(config.home)}; set ARCANA_HOME for a second one`,
    )
  }
  await endLeftoverWorkerd(paths.workerdPid)
  if (!(await waitForPort(LOCAL_HOST, config.port, PORT_TIMEOUT_MS))) {
    throw new StartError(
      `port ${config.port} is taken by another program; set PORT to use another one`,
    )
  }

  const apiKey = config.apiKey ?? (await readOrCreateKey(paths.key))
  const socketDir = await chooseSocketDir(paths.sockets)
  const places = await placeRunners(config)
  const runnerSecret = randomBytes(RUNNER_SECRET_BYTES).toString('hex')

  const pids: Record<string, number | null> = { supervisor: process.pid }
  const recordPid = (name: string) => (pid: number | null) => {
    pids[name] = pid
    // People and tests read this file; the program does not.
    writeFile(paths.processes, `${JSON.stringify(pids)}\n`).catch(() => undefined)
  }
  const gateway = new KeptChild({
    name: 'gateway',
    log,
    onPid: recordPid('gateway'),
    prepare: async () => {
      await rm(paths.tmp, { recursive: true, force: true })
      await mkdir(paths.tmp)
      await rm(socketDir, { recursive: true, force: true })
      await mkdir(socketDir)
      await endLeftoverWorkerd(paths.workerdPid)
    },
    spawn: () => {
      const options: GatewayHostOptions = {
        port: config.port,
        socketDir,
        stateDir: paths.state,
        workerdPidFile: paths.workerdPid,
        keyHash: hashKey(apiKey),
        variables: {
          RUNNER_URLS: places.map(({ port }) => `http://${LOCAL_HOST}:${port}`).join(),
          RUNNER_SECRET: runnerSecret,
          BASE_MODELS: config.models.join(),
          GRADER_HOSTS: config.graderHosts,
          ALLOWED_ORIGINS: config.allowedOrigins,
        },
      }
      return startNode(GATEWAY_HOST, {
        TMPDIR: paths.tmp,
        ARCANA_GATEWAY_HOST: JSON.stringify(options),
        WRANGLER_SEND_METRICS: 'false',
      })
    },
  })
  const runners = places.map(({ id, model, port }) => {
    const name = places.length === 1 ? 'runner' : `runner-${id}`
    const child = new KeptChild({
      name,
      log,
      onPid: recordPid(name),
      spawn: () =>
        startNode(RUNNER, {
          ARCANA_HOME: config.home,
          ARCANA_MODEL: model,
          ARCANA_RUNNER_ID: id,
          ARCANA_RUNNER_HOST: LOCAL_HOST,
          ARCANA_RUNNER_PORT: String(port),
          ARCANA_RUNNER_SECRET: runnerSecret,
          ARCANA_EXIT_WITH_STDIN: '1',
          // A line for each request would bury the messages for people.
          ARCANA_LOG_LEVEL: process.env['ARCANA_LOG_LEVEL'] ?? 'warn',
        }),
    })
    return { model, child }
  })
  /** A model's first runner fetches the file and builds the graphs; the others then find them. */
  const startRunnersOf = async (model: string): Promise<void> => {
    const [first, ...others] = runners.filter((runner) => runner.model === model)
    await first?.child.start()
    await Promise.all(others.map(({ child }) => child.start()))
  }

  const children = [gateway, ...runners.map(({ child }) => child)]

  const state = { stopping: false, stoppingSinceMs: 0 }
  const stop = async (exitCode: number): Promise<void> => {
    if (state.stopping) {
      // One Ctrl-C may arrive from several senders.
      if (Date.now() - state.stoppingSinceMs < SECOND_REQUEST_MS) return
      for (const child of children) child.kill()
      process.exit(exitCode)
    }
    state.stopping = true
    state.stoppingSinceMs = Date.now()
    await Promise.all(children.map((child) => child.stop()))
    await endLeftoverWorkerd(paths.workerdPid)
    if (socketDir !== paths.sockets) await rm(dirname(socketDir), { recursive: true, force: true })
    unlock()
    process.exit(exitCode)
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => void stop(0))
  }
  stopWithNpm(() => void stop(0))
  if (process.env['ARCANA_EXIT_WITH_STDIN'] === '1') {
    // Programs that start this one, tests among them, may want it to end with them.
    process.stdin.on('end', () => void stop(0)).resume()
  }

  try {
    await Promise.all([gateway.start(), ...config.models.map(startRunnersOf)])
  } catch (error) {
    console.error(`arcana: ${error instanceof Error ? error.message : String(error)}`)
    await stop(1)
  }
  if (state.stopping) return
  const keyAt = config.apiKey === null ? displayPath(paths.key) : 'ARCANA_API_KEY'
  console.log(`arcana ready: http://${LOCAL_HOST}:${config.port}/v1 (key in ${keyAt})`)
}

/** The runners to start, each on a free port: first one of each model, then the others. */
async function placeRunners({ models, runnersPerModel }: LocalConfig) {
  const places: { readonly id: string; readonly model: string; readonly port: number }[] = []
  const ports = await findFreePorts(LOCAL_HOST, models.length * runnersPerModel)
  for (const [i, port] of ports.entries()) {
    places.push({ id: `local-${i + 1}`, model: models[i % models.length]!, port })
  }
  return places
}

/**
 * Starts a child detached from the terminal, so that Ctrl-C reaches only the supervisor, which
 * stops it.
 */
function startNode(entry: string, env: Readonly<Record<string, string>>): ChildProcess {
  return spawn(process.execPath, [entry], {
    cwd: ROOT,
    env: { ...process.env, ARCANA_API_KEY: undefined, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  })
}

/** Stops when npm is gone. An npm that is killed by SIGKILL cannot pass the signal on. */
function stopWithNpm(stop: () => void): void {
  if (process.env['npm_lifecycle_event'] === undefined) return
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    stop()
  }, PARENT_POLL_MS)
}

function log(line: string): void {
  console.error(`arcana: ${line}`)
}

// The reader of our output may go away; serving goes on.
process.stdout.on('error', () => undefined)
process.stderr.on('error', () => undefined)

process.umask(OWNER_ONLY_UMASK)
main().catch((error: unknown) => {
  console.error(`arcana: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
})
