/**
 * SIGKILL at random moments of jobs that step along gradients or generate texts. Such a job's
 * decisions depend only on its spec and on its stored state, which includes the time that `auto`
 * has spent. So with a budget that does not bind, a disturbed job must take the same steps as an
 * undisturbed one, and publish the same versions.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { createRng } from '../../gpu-runner/sampling/rng.ts'
import { Api, NEWS_INSTRUCTIONS, newsSplit } from '../fixtures/api.ts'
import { startStack, until, type Stack } from '../fixtures/stack.ts'

const JOB_TIMEOUT_MS = 100_000
/** Seed of the random moments; a failure names it, so that it can be repeated. */
const SEED = Number(process.env['ARCANA_TEST_SEED'] ?? Date.now() % 1e6)
const random = createRng(SEED)

let home = ''
let stack: Stack
let api: Api

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'arcana-faults-'))
  stack = await startStack({ home })
  api = new Api(stack)
})
afterAll(async () => {
  await (stack as Stack | undefined)?.stop()
  await rm(home, { recursive: true, force: true })
})

type Misfortune = 'runner' | 'gateway' | 'everything'

async function strike(misfortune: Misfortune): Promise<void> {
  const pids = await stack.pids()
  if (misfortune === 'everything') process.kill(pids.supervisor, 'SIGKILL')
  const struck = {
    runner: [pids.runner],
    gateway: [pids.workerd, pids.gateway],
    everything: [pids.workerd, pids.gateway, pids.runner],
  }[misfortune]
  for (const pid of struck) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has already ended with its supervisor.
    }
  }
  if (misfortune !== 'everything') return
  stack = await startStack({ home, port: stack.port })
  api = new Api(stack)
}

const upload = async (lines: readonly object[]): Promise<string> => (await api.upload(lines)).id

const metricsOf = async (id: string) => {
  const { data } = await api.events(id)
  return data
    .filter(({ type }) => type === 'metrics')
    .map(({ data }) => data)
    .reverse()
}

/**
 * Runs a job to its end; each misfortune strikes within its own share of the steps.
 * @param numSteps of the job left alone
 * @returns everything that must not depend on the kills
 */
async function run(
  task: string,
  file: string,
  rotation: object,
  misfortunes: readonly Misfortune[] = [],
  numSteps = 0,
) {
  const { id } = await api.createJob(task, file, { guard: 'report', ...rotation })
  for (const [i, misfortune] of misfortunes.entries()) {
    const moment = Math.floor(((i + random()) / misfortunes.length) * numSteps)
    await until(
      `step ${moment}`,
      async () => (await metricsOf(id).catch(() => [])).length >= moment,
      JOB_TIMEOUT_MS,
    )
    await sleep(500 * random())
    if (i === 0 && (await api.job(id)).status !== 'running') throw new Error('struck too late')
    await strike(misfortune)
  }
  const job = await api.untilFinished(id, JOB_TIMEOUT_MS)
  // A job that finds nothing better fails by that name and publishes nothing; any other end is a fault.
  if (job.status !== 'succeeded' && job.error?.code !== 'no_gain') {
    throw new Error(`seed ${SEED}: the job ${job.status}: ${job.error?.message ?? ''}`)
  }
  const { versions, live_version } =
    job.error === null ? await api.task(task) : { versions: [], live_version: null }
  return {
    steps: await metricsOf(id),
    error: job.error,
    live: live_version,
    versions: versions.map(({ version, adapter_digest, job: of }) => {
      return { version, adapter_digest, isOfJob: of === id }
    }),
  }
}

describe(`jobs struck at random moments (seed ${SEED})`, () => {
  it('by auto take the same steps and publish the same versions', async ({ expect }) => {
    const { training } = await newsSplit()
    // Two lines a class: a step is then quick, and the folds are five all the same.
    const seen = new Map<string, number>()
    const few = training.filter(({ label }) => {
      seen.set(label, (seen.get(label) ?? 0) + 1)
      return seen.get(label)! <= 2
    })
    const file = await upload(few)
    const rotation = {
      instructions: NEWS_INSTRUCTIONS,
      // Two configurations, with a budget that does not bind.
      hyperparameters: { optimizer: 'auto', n_trials: 2, budget_seconds: 3600 },
    }
    const calm = await run('calm', file, rotation)
    expect(calm.live).toBe(2)
    expect(calm.versions.map(({ version }) => version)).toEqual([2, 1])
    expect(new Set(calm.versions.map(({ adapter_digest }) => adapter_digest)).size).toBe(2)
    const misfortunes = ['runner', 'gateway', 'everything'] as const
    const struck = await run('struck', file, rotation, misfortunes, calm.steps.length)
    expect(struck, `seed ${SEED}`).toEqual(calm)
  })

  it('with a grader grade the same texts and end the same way', async ({ expect }) => {
    const file = await upload(
      [
        ['Where is the station?', 'It is past the bridge.'],
        ['What time is it?', 'It is nearly noon.'],
        ['Is there any bread left?', 'There are two loaves.'],
        ['Who wrote this letter?', 'The cook wrote it.'],
      ].map(([input, target]) => ({ input, target })),
    )
    const rotation = {
      guard: 'enforce',
      force: true,
      grader: {
        type: 'text_similarity',
        reference: '{{item.target}}',
        evaluation_metric: 'rouge_l',
      },
      generation: { max_tokens: 6 },
      hyperparameters: { optimizer: 'random', n_trials: 10 },
    }
    // Whether ten random rotations hold one better than the base model turns on the processor's
    // kernels: a gain is not asked for, only that a struck job ends as the calm one did.
    const calm = await run('graded', file, rotation)
    expect(calm.steps).toHaveLength(10)
    const struck = await run('graded-struck', file, rotation, ['runner', 'gateway'], 10)
    expect(struck, `seed ${SEED}`).toEqual(calm)
  })
})
