/**
 * `npm start` runs the whole of Arcana on this machine. It supervises two children, the gateway's
 * host (Miniflare with workerd) and one runner. Both end with this process, by a pipe on their
 * standard input. It prints one line on standard output when it answers requests, and all else on
 * standard error.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { hashKey, readOrCreateKey } from './api-key.ts'
import { displayPath, homePaths, readLocalConfig } from './config.ts'
import type { GatewayHostOptions } from './gateway-host.ts'
import { lockHome } from './home-lock.ts'
import { KeptChild } from './kept-child.ts'
import { endLeftoverWorkerd } from './leftover.ts'
import { chooseSocketDir, makePrivate, OWNER_ONLY_UMASK } from './private-home.ts'
import { findFreePort, waitForPort } from './ports.ts'
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
  const runnerPort = await findFreePort(LOCAL_HOST)
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
          RUNNER_URLS: `http://${LOCAL_HOST}:${runnerPort}`,
          RUNNER_SECRET: runnerSecret,
          BASE_MODEL: config.model,
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
  const runner = new KeptChild({
    name: 'runner',
    log,
    onPid: recordPid('runner'),
    spawn: () =>
      startNode(RUNNER, {
        ARCANA_HOME: config.home,
        ARCANA_MODEL: config.model,
        ARCANA_RUNNER_ID: 'local-1',
        ARCANA_RUNNER_HOST: LOCAL_HOST,
        ARCANA_RUNNER_PORT: String(runnerPort),
        ARCANA_RUNNER_SECRET: runnerSecret,
        ARCANA_EXIT_WITH_STDIN: '1',
        // A line for each request would bury the messages for people.
        ARCANA_LOG_LEVEL: process.env['ARCANA_LOG_LEVEL'] ?? 'warn',
      }),
  })

  const state = { stopping: false, stoppingSinceMs: 0 }
  const stop = async (exitCode: number): Promise<void> => {
    if (state.stopping) {
      // One Ctrl-C may arrive from several senders.
      if (Date.now() - state.stoppingSinceMs < SECOND_REQUEST_MS) return
      gateway.kill()
      runner.kill()
      process.exit(exitCode)
    }
    state.stopping = true
    state.stoppingSinceMs = Date.now()
    await Promise.all([gateway.stop(), runner.stop()])
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
    await Promise.all([gateway.start(), runner.start()])
  } catch (error) {
    console.error(`arcana: ${error instanceof Error ? error.message : String(error)}`)
    await stop(1)
  }
  if (state.stopping) return
  const keyAt = config.apiKey === null ? displayPath(paths.key) : 'ARCANA_API_KEY'
  console.log(`arcana ready: http://${LOCAL_HOST}:${config.port}/v1 (key in ${keyAt})`)
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
