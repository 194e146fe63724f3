import { isAbsolute, join, relative, resolve } from 'node:path'
import { readOrigins } from '../protocol/origins.ts'
import { splitList } from '../protocol/split-list.ts'
import { describeError } from './describe-error.ts'

const DEFAULT_PORT = 8787
const DEFAULT_HOME = '.arcana'
const DEFAULT_MODEL = 'smollm2-135m-instruct'
/** Each runner holds a whole model in memory. */
const MAX_RUNNERS = 16
/** Shorter keys are too easy to guess. */
const MIN_KEY_LEN = 8

/** The settings of `npm start`. */
export interface LocalConfig {
  readonly port: number
  /** An absolute path. Everything that outlives a run is below it. */
  readonly home: string
  /** The key from the environment; null to use the key file. */
  readonly apiKey: string | null
  /** The slugs of the base models to serve, at least one. */
  readonly models: readonly string[]
  /** How many runners each model has. */
  readonly runnersPerModel: number
  /** Hosts that jobs may ask for grades, separated by commas; none by default. */
  readonly graderHosts: string
  /** Origins whose pages may call from a browser, separated by commas, or `*`. */
  readonly allowedOrigins: string
}

/** @throws {Error} naming a variable with an invalid value */
export function readLocalConfig(env: NodeJS.ProcessEnv): LocalConfig {
  const port = readInteger(env, 'PORT', DEFAULT_PORT, 65_535)
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
    models: readModels(env),
    runnersPerModel: readInteger(env, 'ARCANA_RUNNERS', 1, MAX_RUNNERS),
    graderHosts: env['ARCANA_GRADER_HOSTS'] ?? '',
    allowedOrigins,
  }
}

function readModels(env: NodeJS.ProcessEnv): readonly string[] {
  const listed = [...new Set(splitList(env['ARCANA_MODELS'] ?? ''))]
  const single = env['ARCANA_MODEL'] ?? ''
  if (listed.length > 0 && single !== '') {
    throw new Error('set ARCANA_MODELS or ARCANA_MODEL, not both')
  }
  const models = listed.length > 0 ? listed : [single || DEFAULT_MODEL]
  if (models.length > 1 && (env['ARCANA_MODEL_FILE'] ?? '') !== '') {
    throw new Error('ARCANA_MODEL_FILE is the file of one model, but ARCANA_MODELS names several')
  }
  return models
}

function readInteger(env: NodeJS.ProcessEnv, name: string, fallback: number, max: number): number {
  const text = env[name] ?? ''
  const value = text === '' ? fallback : Number(text)
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new Error(`${name} must be an integer in 1..${max}, not ${text}`)
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
  /** The sockets between the gateway's host and workerd. */
  sockets: join(home, 'run', 'sockets'),
  workerdPid: join(home, 'run', 'workerd.pid'),
  processes: join(home, 'run', 'processes.json'),
})

/** A path as short as possible, for messages. */
export function displayPath(path: string): string {
  const shorter = relative(process.cwd(), path)
  return shorter.startsWith('..') || isAbsolute(shorter) ? path : shorter
}
