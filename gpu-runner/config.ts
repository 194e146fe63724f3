import { availableParallelism } from 'node:os'
import path from 'node:path'
import { LOG_LEVELS, type LogLevel } from './log.ts'
import type { RunnerOptions } from './runner.ts'

/** A runner's settings, from the environment. */
export type RunnerConfig = Omit<RunnerOptions, 'ggufPath' | 'modelDigest' | 'decodeFormat'> & {
  readonly runnerId: string
  readonly host: string
  readonly port: number
  /** Bearer token that every call but /healthz must carry. */
  readonly secret: string
  readonly modelSlug: string
  /** A GGUF file to serve under that name; undefined serves the catalogue's. */
  readonly modelFile: string | undefined
  readonly ortBackend: 'c-api' | 'js-binding' | undefined
  readonly logLevel: LogLevel
  /** Whether to end when standard input closes; the supervisor holds its other end. */
  readonly exitWithStdin: boolean
}

/** Rows of the decode batch, and so the most arms of one request. */
const DEFAULT_MAX_NUM_SEQS = 16
const DEFAULT_MAX_WAITING = 256
/**
 * A chunk is 128 tokens and takes some 80 ms, so a long prompt delays a running answer's next token
 * by that.
 */
const DEFAULT_PREFILL_CHUNKS = 1
const DEFAULT_REQUEST_TIMEOUT_SECONDS = 600
/** Jobs still make progress, and answers take at most half as long again. */
const DEFAULT_JOB_SHARE = 0.3
const MIN_JOB_SHARE = 0.01
/** 16 rows of this length take 1.5 GB for SmolLM2-135M; memory is taken as rows fill. */
const DEFAULT_MAX_CONTEXT = 2048
const DEFAULT_MAX_RESIDENT_ADAPTERS = 4096
/** Distinct rotations held at once, in use or kept for reuse. 69 KB each for SmolLM2-135M. */
const DEFAULT_NUM_SLOTS = 128
const DEFAULT_SCORE_CACHE_MIB = 2048
/** 11,650 tokens of SmolLM2-135M: a few hundred instructions and shots, or as many documents. */
const DEFAULT_PREFIX_CACHE_MIB = 512
/** Longer than a job's pauses between rounds, but short enough that the memory comes back. */
const DEFAULT_GRADIENT_IDLE_SECONDS = 60
/** Grammars in use at once, and recently used ones. */
const DEFAULT_MAX_GRAMMARS = 16

/** @throws {Error} naming a variable that is missing or out of range */
export function readConfig(env: NodeJS.ProcessEnv, modelDir: string): RunnerConfig {
  const integer = (name: string, fallback: number, min: number, max: number): number => {
    const text = env[name]
    if (text === undefined || text === '') return fallback
    const value = Number(text)
    if (!Number.isInteger(value) || value < min || value > max) {
      throw new Error(`${name} must be an integer in ${min}..${max}, not ${text}`)
    }
    return value
  }
  const fraction = (name: string, fallback: number, min: number): number => {
    const text = env[name]
    if (text === undefined || text === '') return fallback
    const value = Number(text)
    if (!(value >= min && value <= 1)) {
      throw new Error(`${name} must be a number in ${min}..1, not ${text}`)
    }
    return value
  }
  const secret = env.ARCANA_RUNNER_SECRET ?? ''
  if (secret.length < 16) throw new Error('ARCANA_RUNNER_SECRET must hold at least 16 characters')
  const backend = env.ARCANA_ORT_BACKEND
  if (backend !== undefined && backend !== 'c-api' && backend !== 'js-binding') {
    throw new Error(`ARCANA_ORT_BACKEND must be c-api or js-binding, not ${backend}`)
  }
  const prefillFormat = env.ARCANA_PREFILL_WEIGHTS ?? 'float32'
  if (prefillFormat !== 'float32' && prefillFormat !== 'block') {
    throw new Error(`ARCANA_PREFILL_WEIGHTS must be float32 or block, not ${prefillFormat}`)
  }
  const logLevel = LOG_LEVELS.find((level) => level === (env.ARCANA_LOG_LEVEL ?? 'info'))
  if (logLevel === undefined) {
    throw new Error(`ARCANA_LOG_LEVEL must be one of ${LOG_LEVELS.join(', ')}`)
  }
  const maxNumSeqs = integer('ARCANA_MAX_NUM_SEQS', DEFAULT_MAX_NUM_SEQS, 1, 256)
  return {
    runnerId: env.ARCANA_RUNNER_ID ?? 'runner-1',
    host: env.ARCANA_RUNNER_HOST ?? '127.0.0.1',
    port: integer('ARCANA_RUNNER_PORT', 8788, 0, 65535),
    secret,
    modelSlug: env.ARCANA_MODEL ?? 'smollm2-135m-instruct',
    modelFile: env.ARCANA_MODEL_FILE === '' ? undefined : env.ARCANA_MODEL_FILE,
    buildDir: path.join(modelDir, 'builds'),
    prefillFormat,
    numThreads: integer('ARCANA_THREADS', Math.max(1, availableParallelism()), 1, 256),
    allowSpinning: env.ARCANA_SPIN !== '0',
    maxContext: integer('ARCANA_MAX_CONTEXT', DEFAULT_MAX_CONTEXT, 16, 1 << 20),
    maxNumSeqs,
    maxWaiting: integer('ARCANA_MAX_WAITING', DEFAULT_MAX_WAITING, 1, 100_000),
    prefillChunksPerStep: integer('ARCANA_PREFILL_CHUNKS', DEFAULT_PREFILL_CHUNKS, 1, 64),
    requestTimeoutMs:
      integer('ARCANA_REQUEST_TIMEOUT_SECONDS', DEFAULT_REQUEST_TIMEOUT_SECONDS, 1, 86_400) * 1000,
    jobShare: fraction('ARCANA_JOB_SHARE', DEFAULT_JOB_SHARE, MIN_JOB_SHARE),
    maxResidentAdapters: integer(
      'ARCANA_MAX_RESIDENT_ADAPTERS',
      DEFAULT_MAX_RESIDENT_ADAPTERS,
      1,
      1_000_000,
    ),
    numSlots: Math.max(integer('ARCANA_SLOTS', DEFAULT_NUM_SLOTS, 2, 65_536), maxNumSeqs + 2),
    scoreCacheBytes:
      integer('ARCANA_SCORE_CACHE_MIB', DEFAULT_SCORE_CACHE_MIB, 1, 1 << 20) * 2 ** 20,
    prefixCacheBytes:
      integer('ARCANA_PREFIX_CACHE_MIB', DEFAULT_PREFIX_CACHE_MIB, 0, 1 << 20) * 2 ** 20,
    gradientIdleMs:
      integer('ARCANA_GRADIENT_IDLE_SECONDS', DEFAULT_GRADIENT_IDLE_SECONDS, 1, 86_400) * 1000,
    maxGrammars: integer('ARCANA_MAX_GRAMMARS', DEFAULT_MAX_GRAMMARS, 1, 256),
    ortBackend: backend,
    logLevel,
    exitWithStdin: env.ARCANA_EXIT_WITH_STDIN === '1',
  }
}
