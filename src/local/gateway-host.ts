/**
 * The process that holds Miniflare: the gateway's Worker in workerd, on embedded D1, R2 and Durable
 * Objects. The supervisor starts it with its options in ARCANA_GATEWAY_HOST. It ends when its
 * standard input closes. It prints {"event":"ready"} when it answers requests.
 */
import { fileURLToPath } from 'node:url'
import { createRequire } from 'node:module'
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from 'miniflare'
import { bootstrapStatements } from '../db/bootstrap.ts'
import { readOrigins } from '../protocol/origins.ts'
import { describeError } from './describe-error.ts'
import { Front, isListening } from './front.ts'
import { endWithStdin } from './lifeline.ts'
import { applyMigrations } from './migrate.ts'
import { listenPrivately } from './private-listeners.ts'
import { OWNER_ONLY_UMASK } from './private-home.ts'
import { openSetupDatabase } from './setup-database.ts'
import {
  bundleWorker,
  LOCAL_HOST,
  miniflareOptions,
  socketPaths,
  type GatewayOptions,
} from './worker-options.ts'

export interface GatewayHostOptions extends GatewayOptions {
  readonly port: number
  readonly keyHash: string
  readonly workerdPidFile: string
}

const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url))
const WORKERD_WRAPPER = fileURLToPath(new URL('./workerd.sh', import.meta.url))
const PROJECT = 'local'
const WORKERD_POLL_MS = 2_000
const MAX_MISSED_WORKERD = 3

/** Logs to standard error, because the supervisor reads standard output. */
class StderrLog extends Log {
  protected override log(message: string): void {
    console.error(message)
  }
}

async function main(): Promise<void> {
  const text = process.env['ARCANA_GATEWAY_HOST']
  if (text === undefined) throw new Error('start this process by `npm start`')
  const options = JSON.parse(text) as GatewayHostOptions
  // workerd inherits the environment and must not see the secrets in the options.
  delete process.env['ARCANA_GATEWAY_HOST']
  process.env['ARCANA_WORKERD_BINARY'] = workerdBinary()
  process.env['ARCANA_WORKERD_PID_FILE'] = options.workerdPidFile
  process.env['MINIFLARE_WORKERD_PATH'] = WORKERD_WRAPPER

  process.env['ARCANA_WORKERD_SOCKETS'] = options.socketDir
  listenPrivately(options.socketDir)

  const sockets = socketPaths(options.socketDir)
  const front = new Front(sockets.gateway, {}, readOrigins(options.variables.ALLOWED_ORIGINS))
  await front.listen(options.port, LOCAL_HOST)
  const script = await bundleWorker()
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      ...miniflareOptions(script, options),
      log: new StderrLog(LogLevel.WARN),
      handleStructuredLogs: ({ message }) => {
        console.error(message)
      },
    }),
  )
  const { isEnding } = endWithStdin(async () => {
    front.close()
    await miniflare.dispose()
  })
  try {
    await miniflare.ready
    const database = openSetupDatabase(sockets.setup)
    await applyMigrations(database, MIGRATIONS)
    const statements = bootstrapStatements(PROJECT, options.keyHash)
    await database.batch(statements.map(({ sql, params }) => database.prepare(sql).bind(...params)))
  } catch (error) {
    // If this process was told to end meanwhile, Miniflare has been disposed and its objects fail.
    if (isEnding()) return
    throw error
  }
  front.open()
  endWithoutWorkerd(sockets.gateway, isEnding)
  console.log(JSON.stringify({ event: 'ready', port: options.port }))
}

/**
 * Ends this process when workerd is gone for good. Miniflare restarts it once, the supervisor
 * always.
 */
function endWithoutWorkerd(socketPath: string, isEnding: () => boolean): void {
  let numMissed = 0
  setInterval(() => {
    void isListening(socketPath).then((isThere) => {
      numMissed = isThere ? 0 : numMissed + 1
      if (numMissed < MAX_MISSED_WORKERD || isEnding()) return
      endBecause(new Error('workerd is gone and was not started again'))
    })
  }, WORKERD_POLL_MS).unref()
}

/** Ends this process; the supervisor then starts it again. */
function endBecause(error: unknown): never {
  console.error(`gateway: ${describeError(error)}`)
  process.exit(1)
}

function workerdBinary(): string {
  const override = process.env['MINIFLARE_WORKERD_PATH']
  if (override !== undefined) return override
  // workerd is miniflare's dependency, wherever npm put it; its main module names the binary.
  const requireFromMiniflare = createRequire(fileURLToPath(import.meta.resolve('miniflare')))
  return (requireFromMiniflare('workerd') as { default: string }).default
}

process.umask(OWNER_ONLY_UMASK)
// Such an error may come from Miniflare and leaves it in an unknown state.
process.on('uncaughtException', endBecause)
process.on('unhandledRejection', endBecause)
main().catch(endBecause)
