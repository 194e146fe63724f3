import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-pool-workers'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const migrations = fileURLToPath(new URL('./migrations', import.meta.url))

/** Pure tests without a model, ONNX Runtime, a process or workerd. They run in parallel. */
const UNIT = [
  'test/adapters/**/*.test.ts',
  'test/bench/**/!(hidden-states).test.ts',
  'test/gpu-runner/*.test.ts',
  'test/gpu-runner/{adapters,kv-cache,sampling,scheduler,tools}/**/*.test.ts',
  'test/gpu-runner/engine/{profile,turns}.test.ts',
  'test/gpu-runner/model/{own-file,progress,gguf/dequantise,gguf/write}.test.ts',
  'test/gpu-runner/onnx/{block-quantise,backward/shaped-graph}.test.ts',
  'test/gpu-runner/scoring/prompt-dropout.test.ts',
  'test/gpu-runner/tokenizer/{chat-template,vocabulary}.test.ts',
  'test/local/config.test.ts',
]

/** Long enough for slow machines; a test that hangs only fails later. */
const UNIT_TIMEOUT_MS = 90_000
/** Long enough for a model to load and answer on two cores. */
const MODEL_TIMEOUT_MS = 300_000

/** A project that runs one file at a time: two models would share two cores and spoil timings. */
const oneByOne = (name: string, groupOrder: number, include: string[], globalSetup: string[]) => ({
  test: {
    name,
    include,
    exclude: UNIT,
    globalSetup,
    testTimeout: MODEL_TIMEOUT_MS,
    hookTimeout: MODEL_TIMEOUT_MS,
    fileParallelism: false,
    sequence: { groupOrder },
  },
})

export default defineConfig({
  test: {
    // Tests of faults make the services log errors, which would fill the output of a passing run.
    silent: 'passed-only',
    reporters: ['default', './test/fixtures/skipped-reporter.ts'],
    projects: [
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                RUNNER_URLS: 'http://runner.test',
                RUNNER_SECRET: 'test-runner-secret',
                GRADER_HOSTS: 'grader.test',
                TEST_MIGRATIONS: await readD1Migrations(migrations),
              },
            },
          })),
        ],
        test: {
          name: 'gateway',
          include: ['test/gateway/**/*.test.ts'],
          setupFiles: ['test/gateway/setup.ts'],
          // One file at a time, because some jobs have a budget in seconds.
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          testTimeout: UNIT_TIMEOUT_MS,
        },
      },
      {
        test: {
          name: 'unit',
          include: UNIT,
          testTimeout: UNIT_TIMEOUT_MS,
          maxWorkers: 2,
          // The files share no state, so each worker loads a module only once.
          isolate: false,
          sequence: { groupOrder: 0 },
        },
      },
      oneByOne('model', 2, ['test/{bench,gpu-runner}/**/*.test.ts'], []),
      oneByOne(
        'system',
        3,
        ['test/{cli,conformance,e2e,faults,local}/**/*.test.ts'],
        ['test/fixtures/shared-stack-setup.ts'],
      ),
    ],
  },
})
