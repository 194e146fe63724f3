/**
 * The process that holds Miniflare: the gateway's Worker in workerd, on embedded D1, R2 and Durable
 * Objects. Started by the supervisor with its options in ARCANA_GATEWAY_HOST; ends when standard
 * input closes. Prints {"event":"ready"} once requests are answered.
 */
import { fileURLToPath } from 'node:url'
import { createRequire } from 'node:module'
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from 'miniflare'
import { bootstrapStatements } from '../db/bootstrap.ts'
import { endWithStdin } from './lifeline.ts'
import { applyMigrations, type Database } from './migrate.ts'
import { bundleWorker, miniflareOptions, type GatewayOptions } from './worker-options.ts'

export interface GatewayHostOptions extends GatewayOptions {
  readonly keyHash: string
  readonly workerdPidFile: string
}

const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url))
const WORKERD_WRAPPER = fileURLToPath(new URL('./workerd.sh', import.meta.url))
const PROJECT = 'local'

/** Standard output belongs to the supervisor's protocol. */
class StderrLog extends Log {
  protected override log(message: string): void {
    console.error(message)
  }
}

async function main(): Promise<void> {
  const text = process.env['ARCANA_GATEWAY_HOST']
  if (text === undefined) throw new Error('started by `npm start`, not by itself')
  const options = JSON.parse(text) as GatewayHostOptions
  // workerd inherits the environment, and the secrets in here are not its business.
  delete process.env['ARCANA_GATEWAY_HOST']
  process.env['ARCANA_WORKERD_BINARY'] = workerdBinary()
  process.env['ARCANA_WORKERD_PID_FILE'] = options.workerdPidFile
  process.env['MINIFLARE_WORKERD_PATH'] = WORKERD_WRAPPER

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
  const { isEnding } = endWithStdin(() => miniflare.dispose())
  try {
    await miniflare.ready
    const database = (await miniflare.getD1Database('DB')) as unknown as Database
    await applyMigrations(database, MIGRATIONS)
    const statements = bootstrapStatements(PROJECT, options.keyHash)
    await database.batch(statements.map(({ sql, params }) => database.prepare(sql).bind(...params)))
  } catch (error) {
    // Told to end meanwhile, Miniflare's objects fail under our hands.
    if (isEnding()) return
    throw error
  }
  console.log(JSON.stringify({ event: 'ready', port: options.port }))
}

function workerdBinary(): string {
  const override = process.env['MINIFLARE_WORKERD_PATH']
  if (override !== undefined) return override
  // workerd is miniflare's dependency, wherever npm put it; its main module names the binary.
  const requireFromMiniflare = createRequire(fileURLToPath(import.meta.resolve('miniflare')))
  return (requireFromMiniflare('workerd') as { default: string }).default
}

main().catch((error: unknown) => {
  console.error(`gateway: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
})
