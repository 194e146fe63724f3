import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-pool-workers'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const migrations = fileURLToPath(new URL('./migrations', import.meta.url))

/** Pure files: no model, no ONNX Runtime, no process, no workerd. They run side by side. */
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

/** Slow machines are given time: a hang is found later, no more. */
const UNIT_TIMEOUT_MS = 90_000
/** A model has to load and answer on two cores. */
const MODEL_TIMEOUT_MS = 300_000

/** Files that run one at a time: two cores hold one model, and timings mean nothing under two. */
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
    // Tests of faults make the services log them.
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
          // One file at a time: some jobs here have a budget in seconds.
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
          // They share no state, so a module is loaded once a worker.
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
