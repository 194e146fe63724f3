import { isAbsolute, join, relative, resolve } from 'node:path'
import { readOrigins } from '../protocol/origins.ts'
import { describeError } from './describe-error.ts'

const DEFAULT_PORT = 8787
const DEFAULT_HOME = '.arcana'
const DEFAULT_MODEL = 'smollm2-135m-instruct'
/** Shorter keys are guesses. */
const MIN_KEY_LEN = 8

/** What `npm start` was asked for. */
export interface LocalConfig {
  readonly port: number
  /** Absolute: everything that outlives a run is below it. */
  readonly home: string
  /** From the environment; otherwise the key file's. */
  readonly apiKey: string | null
  /** Slug of the base model to serve. */
  readonly model: string
  /** Hosts that graders of jobs may ask, comma separated; none by default. */
  readonly graderHosts: string
  /** Origins whose pages may call from a browser, comma separated, or `*`. */
  readonly allowedOrigins: string
}

/** @throws {Error} a variable that cannot be used, by name */
export function readLocalConfig(env: NodeJS.ProcessEnv): LocalConfig {
  const portText = env['PORT'] ?? ''
  const port = portText === '' ? DEFAULT_PORT : Number(portText)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new Error(`PORT must be an integer in 1..65535, not ${portText}`)
  }
  const apiKey = env['ARCANA_API_KEY'] ?? ''
  if (apiKey !== '' && !/^[\x21-\x7e]+$/.test(apiKey)) {
    throw new Error('ARCANA_API_KEY must hold printable ASCII without spaces')
  }
  if (apiKey !== '' && apiKey.length < MIN_KEY_LEN) {
    throw new Error(`ARCANA_API_KEY must hold at least ${MIN_KEY_LEN} characters`)
  }
  const allowedOrigins = env['ARCANA_ALLOWED_ORIGINS'] ?? ''
  try {
    readOrigins(allowedOrigins)
  } catch (error) {
    throw new Error(`ARCANA_ALLOWED_ORIGINS: ${describeError(error)}`, { cause: error })
  }
  return {
    port,
    home: resolve(env['ARCANA_HOME'] || DEFAULT_HOME),
    apiKey: apiKey === '' ? null : apiKey,
    model: env['ARCANA_MODEL'] || DEFAULT_MODEL,
    graderHosts: env['ARCANA_GRADER_HOSTS'] ?? '',
    allowedOrigins,
  }
}

/** The files below ARCANA_HOME. */
export const homePaths = (home: string) => ({
  key: join(home, 'key'),
  /** D1, R2 and Durable Objects. */
  state: join(home, 'state'),
  run: join(home, 'run'),
  lock: join(home, 'run', 'lock'),
  /** Miniflare's scratch files. */
  tmp: join(home, 'run', 'tmp'),
  /** Between the gateway's host and workerd. */
  sockets: join(home, 'run', 'sockets'),
  workerdPid: join(home, 'run', 'workerd.pid'),
  processes: join(home, 'run', 'processes.json'),
})

/** A path as a person would type it here. */
export function displayPath(path: string): string {
  const shorter = relative(process.cwd(), path)
  return shorter.startsWith('..') || isAbsolute(shorter) ? path : shorter
}
