/**
 * `npm run test:clients [-- NAME…]`: the libraries that people use, each by a script of its own
 * against one real stack. A folder here is a library: its pins (`requirements.txt` or
 * `package.json`) and `main.py` or `main.js`, which prints a line for each part that holds. A part
 * that docs/clients.md says does not work is asserted to fail as it says.
 */
import { readdirSync } from 'node:fs'
import { Api, BASE_MODEL, NEWS_INSTRUCTIONS, newsSplit } from '../fixtures/api.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'
import type { FineTuningJob } from '../../src/protocol/openai/fine-tuning.ts'
import { prepare, type Installed } from './environment.ts'
import { runProgram } from './run-program.ts'

/** The task's name in docs/clients.md. */
const TASK = 'news-demo'
const JOB_TIMEOUT_MS = 300_000
const SCRIPT_TIMEOUT_MS = 600_000

type Outcome = {
  readonly name: string
  readonly pins: string
  readonly failed: boolean
  readonly seconds: number
  readonly parts: string
}

const names = readdirSync(import.meta.dirname, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !names.includes(name))
if (unknown.length > 0) {
  console.error(`no library "${unknown.join('", "')}"; there are: ${names.join(', ')}`)
  process.exit(2)
}

const installed: Installed[] = []
for (const name of wanted.length > 0 ? wanted : names) {
  const startedAtMs = performance.now()
  const library = await prepare(name)
  if (library.isNew) console.log(`${name}: installed in ${secondsSince(startedAtMs)} s`)
  installed.push(library)
}

const startedAtMs = performance.now()
const stack = await startStack()
const outcomes: Outcome[] = []
try {
  await learnTask(stack)
  for (const library of installed) {
    const outcome = await run(library, stack)
    console.log(describe(outcome))
    outcomes.push(outcome)
  }
} finally {
  await stack.stop()
}

const width = Math.max(...outcomes.map(({ name }) => name.length))
console.log(`\n${secondsSince(startedAtMs)} s without installing`)
for (const { name, failed, pins } of outcomes) {
  console.log(`  ${name.padEnd(width)}  ${failed ? 'FAILED' : 'ok    '}  ${pins}`)
}
if (outcomes.some(({ failed }) => failed)) process.exitCode = 1

/** The demo's task, fitted in a few steps and live whatever the outcome. */
async function learnTask(stack: Stack): Promise<void> {
  const api = new Api(stack)
  const { training } = await newsSplit()
  const file = await api.upload(training)
  const job = await api.post<FineTuningJob>('/fine_tuning/jobs', {
    model: BASE_MODEL,
    training_file: file.id,
    suffix: TASK,
    seed: 0,
    method: {
      type: 'rotation',
      rotation: {
        instructions: NEWS_INSTRUCTIONS,
        force: true,
        hyperparameters: { optimizer: 'gradient', n_steps: 8 },
      },
    },
  })
  const { status, error } = await api.untilFinished(job.id, JOB_TIMEOUT_MS)
  if (status !== 'succeeded') throw new Error(`the task's job ${status}: ${error?.message ?? '?'}`)
}

async function run({ name, pins, command, folder, home }: Installed, stack: Stack) {
  const startedAtMs = performance.now()
  const { code, output, stdout } = await runProgram(command, {
    cwd: folder,
    timeoutMs: SCRIPT_TIMEOUT_MS,
    env: {
      HOME: home,
      OPENAI_BASE_URL: stack.baseUrl,
      OPENAI_API_KEY: stack.apiKey,
      ARCANA_MODEL: BASE_MODEL,
      ARCANA_TASK: TASK,
    },
  })
  const failed = code !== 0
  if (failed) console.log(output)
  const seconds = secondsSince(startedAtMs)
  return { name, pins, failed, seconds, parts: stdout.trim().split('\n').join(', ') }
}

function describe({ name, failed, seconds, parts }: Outcome): string {
  return `${name}: ${failed ? 'FAILED after' : 'ok,'} ${parts} (${seconds} s)`
}

function secondsSince(startedAtMs: number): number {
  return Math.round((performance.now() - startedAtMs) / 100) / 10
}
