import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { V4MiniflareOptions } from 'miniflare'
import { SETUP_WORKER } from './setup-database.ts'

export const LOCAL_HOST = '127.0.0.1'
const ENTRY = fileURLToPath(new URL('../index.ts', import.meta.url))

/**
 * The settings of wrangler.toml in Miniflare's form. They are repeated here because `npm start`
 * must run without wrangler, a development dependency. test/local/worker-options.test.ts keeps the
 * two equal.
 */
export const WORKER = {
  compatibilityDate: '2026-08-01',
  compatibilityFlags: ['enable_request_signal'],
  d1Databases: { DB: '00000000-0000-0000-0000-000000000000' },
  r2Buckets: { BLOBS: 'arcana-blobs' },
  durableObjects: {
    JOBS: { className: 'JobObject', useSQLite: true },
    LIMITS: { className: 'LimitsObject', useSQLite: true },
    BATCHES: { className: 'BatchObject', useSQLite: true },
  },
} as const

export interface GatewayOptions {
  /** Folder of the sockets between the host and workerd; only its owner may enter it. */
  readonly socketDir: string
  /** Folder of D1, R2 and Durable Objects. */
  readonly stateDir: string
  readonly variables: {
    readonly RUNNER_URLS: string
    readonly RUNNER_SECRET: string
    readonly BASE_MODELS: string
    readonly GRADER_HOSTS: string
    readonly ALLOWED_ORIGINS: string
  }
}

/** The Worker as one module, as wrangler would bundle it. */
export async function bundleWorker(): Promise<string> {
  const result = await build({
    entryPoints: [ENTRY],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2024',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['cloudflare:*', 'node:*'],
    sourcemap: 'inline',
    logLevel: 'silent',
  })
  return result.outputFiles[0]!.text
}

/** Sockets of the folder: Miniflare writes a port after an address, so it ends up in a path too. */
export const socketPaths = (socketDir: string) => ({
  gateway: join(socketDir, 'gateway:0'),
  setup: join(socketDir, 'setup:0'),
})

export function miniflareOptions(script: string, options: GatewayOptions): V4MiniflareOptions {
  const socketOf = (name: string) => [{ host: `unix:${join(options.socketDir, name)}`, port: 0 }]
  return {
    resourcePersistencePath: options.stateDir,
    // Of the entry socket and Miniflare's own server, which workerd.sh and the host move.
    host: LOCAL_HOST,
    // No fetch of request.cf from the network.
    cf: false,
    logRequests: false,
    workers: [
      {
        name: 'arcana-gateway',
        modules: true,
        script,
        compatibilityDate: WORKER.compatibilityDate,
        compatibilityFlags: [...WORKER.compatibilityFlags],
        d1Databases: { ...WORKER.d1Databases },
        r2Buckets: { ...WORKER.r2Buckets },
        durableObjects: { ...WORKER.durableObjects },
        bindings: { ...options.variables },
        // Requests to the entry socket pass a proxy Worker first; a direct socket is ten times
        // faster.
        unsafeDirectSockets: socketOf('gateway'),
      },
      {
        name: 'arcana-setup',
        modules: true,
        script: SETUP_WORKER,
        compatibilityDate: WORKER.compatibilityDate,
        d1Databases: { ...WORKER.d1Databases },
        unsafeDirectSockets: socketOf('setup'),
      },
    ],
  }
}
