import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-pool-workers'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const migrations = fileURLToPath(new URL('./migrations', import.meta.url))

/** Nothing here starts a model. Slow machines are given time: a hang is found later, no more. */
const UNIT_TIMEOUT_MS = 90_000
/** Tests that start the real stack wait for a model to load and answer on two cores. */
const MODEL_TIMEOUT_MS = 300_000

export default defineConfig({
  test: {
    // Tests of faults make the services log them.
    silent: 'passed-only',
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
          name: 'pure',
          include: ['test/adapters/**/*.test.ts'],
          testTimeout: UNIT_TIMEOUT_MS,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'node',
          include: ['test/{bench,gpu-runner,local,cli,conformance,e2e,faults}/**/*.test.ts'],
          testTimeout: MODEL_TIMEOUT_MS,
          hookTimeout: MODEL_TIMEOUT_MS,
          // One file at a time: two cores hold one model, and timings mean nothing under two.
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
