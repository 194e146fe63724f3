import { describe, test } from 'vitest'
import { readConfig } from '../../gpu-runner/config.ts'

const SECRET = 'a-runner-secret-for-tests'
const read = (env: NodeJS.ProcessEnv = {}) =>
  readConfig({ ARCANA_RUNNER_SECRET: SECRET, ...env }, '/models')

test('a secret is all that must be set; an empty number is as good as none', ({ expect }) => {
  expect(read()).toMatchObject({
    runnerId: 'runner-1',
    host: '127.0.0.1',
    port: 8788,
    secret: SECRET,
    modelSlug: 'smollm2-135m-instruct',
    modelFile: undefined,
    buildDir: '/models/builds',
    prefillFormat: 'float32',
    allowSpinning: true,
    maxContext: 2048,
    maxNumSeqs: 16,
    maxWaiting: 256,
    prefillChunksPerStep: 1,
    requestTimeoutMs: 600_000,
    jobShare: 0.3,
    maxResidentAdapters: 4096,
    numSlots: 128,
    scoreCacheBytes: 2048 * 2 ** 20,
    prefixCacheBytes: 512 * 2 ** 20,
    gradientIdleMs: 60_000,
    maxGrammars: 16,
    ortBackend: undefined,
    logLevel: 'info',
    exitWithStdin: false,
  })
  expect(read({ ARCANA_MAX_CONTEXT: '' })).toEqual(read())
})

test('every row can hold a rotation of its own, however few slots are set', ({ expect }) => {
  expect(read({ ARCANA_SLOTS: '2', ARCANA_MAX_NUM_SEQS: '64' }).numSlots).toBe(66)
})

describe('what is out of range is refused by name', () => {
  test.for([
    ['ARCANA_MAX_NUM_SEQS', '0', 'must be an integer in 1..256, not 0'],
    ['ARCANA_MAX_CONTEXT', '1e3.5', 'must be an integer in 16..1048576, not 1e3.5'],
    ['ARCANA_RUNNER_PORT', '65536', 'must be an integer in 0..65535, not 65536'],
    ['ARCANA_PREFILL_CHUNKS', '1.5', 'must be an integer in 1..64, not 1.5'],
    ['ARCANA_JOB_SHARE', '0', 'must be a number in 0.01..1, not 0'],
    ['ARCANA_JOB_SHARE', 'half', 'must be a number in 0.01..1, not half'],
    ['ARCANA_ORT_BACKEND', 'cuda', 'must be c-api or js-binding, not cuda'],
    ['ARCANA_PREFILL_WEIGHTS', 'int4', 'must be float32 or block, not int4'],
    ['ARCANA_LOG_LEVEL', 'loud', 'must be one of debug, info, warn, error, silent'],
    ['ARCANA_RUNNER_SECRET', 'short', 'must hold at least 16 characters'],
  ] as const)('%s=%s', ([name, value, sentence], { expect }) => {
    expect(() => read({ [name]: value })).toThrow(new Error(`${name} ${sentence}`))
  })
})
