import { abortAllDurableObjects } from 'cloudflare:test'
import { describe, it, vi } from 'vitest'
import { decodeBinaryBody } from '../../src/protocol/runner-scoring.ts'
import {
  accepted,
  client,
  finishJob,
  postJob,
  runner,
  uploadExamples,
  useFreshProject,
} from './fresh-project.ts'
import { MODEL } from './harness.ts'
import { holdCall } from './hold-call.ts'

useFreshProject()

type Report = {
  adapter_digest: string
  n_trials: number
  auto: {
    budget_seconds: number
    seconds_spent: number
    configurations: { end: string; held_out_loss: number; layers: number[] }[]
    chosen: number[]
    strength: number
    held_out_loss: number
    base_loss: number
  }
}
type Job = {
  id: string
  status: string
  error: { code: string; param: string } | null
  fine_tuned_model: string | null
  arcana: {
    version: number | null
    progress: { trials_done: number; trials_total: number; best_value: number; base_value: number }
    report: Report | null
  }
}
type Checkpoint = { id: string; fine_tuned_model_checkpoint: string; step_number: number }

const EXAMPLES = Array.from({ length: 10 }, (_, i) => ({
  input: `line ${i}`,
  label: i % 2 === 0 ? 'Sports' : 'World',
}))

/** Few configurations and a budget that does not bind, so that the result is reproducible. */
const AUTO = {
  type: 'rotation',
  rotation: {
    instructions: 'Say the category.',
    // Ten examples are too few for the guard, which is not under test.
    guard: 'report',
    hyperparameters: { optimizer: 'auto', n_trials: 4, budget_seconds: 600 },
  },
}

const createJob = (overrides: Record<string, unknown> = {}): Promise<Response> =>
  postJob(AUTO.rotation, EXAMPLES, { suffix: 'news', ...overrides })

const started = (overrides: Record<string, unknown> = {}): Promise<Job> =>
  accepted(createJob(overrides))

const waitFor = (id: string): Promise<Job> => finishJob<Job>(id)

const checkpointsOf = async (id: string, query = '') =>
  (await client.call('GET', `/v1/fine_tuning/jobs/${id}/checkpoints${query}`)).json<{
    data: Checkpoint[]
    has_more: boolean
    first_id: string | null
  }>()

const chat = (model: string) =>
  client.call('POST', '/v1/chat/completions', {
    model,
    messages: [{ role: 'user', content: 'goal' }],
  })

describe('a job by auto', () => {
  it('tries configurations, reports them, and publishes the best', async ({ expect }) => {
    const job = await waitFor((await started()).id)
    expect(job.error).toBeNull()
    expect(job).toMatchObject({
      status: 'succeeded',
      arcana: { version: 2, progress: { trials_done: 5, trials_total: 5 } },
    })
    const { auto, n_trials } = job.arcana.report!
    expect(n_trials).toBe(5)
    expect(auto.configurations).toHaveLength(4)
    expect(auto.configurations[0]).toMatchObject({ end: 'finished', learning_rate: 0.05 })
    expect(auto.held_out_loss).toBeLessThan(auto.base_loss)
    expect(auto.chosen.length).toBeGreaterThan(1)
    expect(job.arcana.progress.base_value).toBeCloseTo(-auto.base_loss, 6)
    // The runner loads it before the first call that needs it.
    expect(runner.callsTo('PUT /v1/datasets')).toBe(1)
    expect(runner.calls.some((call) => call.endsWith('?use=gradient'))).toBe(true)
  })

  it('publishes a checkpoint that is not live', async ({ expect }) => {
    const slow = runner.intercept
    let isHeld = false
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    const { id } = await started()
    runner.intercept = async (request) => {
      const isLater = (await checkpointsOf(id)).data.length > 0
      if (request.url.endsWith('/v1/gradient') && isLater && !isHeld) {
        isHeld = true
        await held
      }
      return slow(request)
    }
    const [first] = await vi.waitFor(
      async () => {
        const { data } = await checkpointsOf(id)
        if (data.length === 0) throw new Error('none yet')
        return data
      },
      { timeout: 10_000, interval: 20 },
    )
    expect(first).toMatchObject({
      object: 'fine_tuning.job.checkpoint',
      fine_tuned_model_checkpoint: `${MODEL}:news@1`,
      fine_tuning_job_id: id,
      step_number: 2,
    })
    const running = await (
      await client.call('GET', `/v1/fine_tuning/jobs/${id}`)
    ).json<{
      created_at: number
      estimated_finish: number
    }>()
    expect(running.estimated_finish - running.created_at).toBeGreaterThanOrEqual(600)
    expect(running.estimated_finish - running.created_at).toBeLessThan(660)
    // It answers only by its version; the task has no live version yet.
    expect((await chat(`${MODEL}:news@1`)).status).toBe(200)
    const unnamed = await chat(`${MODEL}:news`)
    expect(unnamed.status).toBe(404)
    expect(await unnamed.json()).toMatchObject({ error: { code: 'model_not_found' } })
    const task = await (await client.call('GET', '/v1/tasks/news')).json()
    expect(task).toMatchObject({ live_version: null, versions: [{ version: 1, job: id }] })
    const promoted = await client.call('POST', '/v1/tasks/news/promote', {
      version: 1,
      expected_live: null,
    })
    expect(await promoted.json()).toMatchObject({ live_version: 1 })
    expect((await chat(`${MODEL}:news`)).status).toBe(200)
    release()
    expect(await waitFor(id)).toMatchObject({ status: 'succeeded', arcana: { version: 2 } })
    const { data } = await checkpointsOf(id)
    expect(data.map((made) => made.fine_tuned_model_checkpoint)).toEqual([
      `${MODEL}:news@2`,
      `${MODEL}:news@1`,
    ])
    const page = await checkpointsOf(id, '?limit=1')
    expect(page).toMatchObject({ has_more: true, first_id: data[0]!.id })
    expect((await checkpointsOf(id, `?after=${data[0]!.id}`)).data).toEqual([data[1]])
    expect((await client.call('GET', '/v1/tasks/news')).status).toBe(200)
    expect((await chat(`${MODEL}:news`)).status).toBe(200)
  })

  it('finds the same after its object is lost twice', async ({ expect }) => {
    const whole = await waitFor((await started({ suffix: 'whole' })).id)
    const numCalls = runner.callsTo('POST /v1/gradient')
    for (const [suffix, at] of [
      ['early', 3],
      ['late', numCalls - 2],
    ] as const) {
      const { countCalls, reached, release } = holdCall('/v1/gradient', at)
      const { id } = await started({ suffix })
      await reached()
      await abortAllDurableObjects()
      release()
      const cut = await waitFor(id)
      expect(cut.status).toBe('succeeded')
      // Only the interrupted call is repeated.
      expect(countCalls()).toBe(numCalls + 1)
      expect(cut.arcana.report!.adapter_digest).toBe(whole.arcana.report!.adapter_digest)
      expect((await checkpointsOf(id)).data).toHaveLength(2)
    }
  })

  it('sends many examples in whole groups, so that all calls share their prompts', async ({
    expect,
  }) => {
    const many = Array.from({ length: 100 }, (_, i) => ({
      input: `example ${i}`,
      label: i % 2 === 0 ? 'a' : 'b',
    }))
    const groups = new Set<string>()
    runner.intercept = async (request) => {
      const isScore = request.url.endsWith('/v1/score')
      if (!isScore && !request.url.endsWith('/v1/gradient')) return null
      const split = decodeBinaryBody(new Uint8Array(await request.clone().arrayBuffer()))!
      const { examples } = JSON.parse(split.headerJson) as { examples: number[] }
      for (let at = 0; at < examples.length; at += 32)
        groups.add(examples.slice(at, at + 32).join())
      return null
    }
    const job = await started({ training_file: await uploadExamples(many) })
    expect((await waitFor(job.id)).status).toBe('succeeded')
    expect([...groups].map((group) => group.split(',').length)).toEqual([32, 32, 32, 4])
  })

  it('whose budget holds one configuration publishes one version', async ({ expect }) => {
    runner.intercept = async (request) => {
      if (request.url.endsWith('/v1/gradient')) await new Promise((done) => setTimeout(done, 120))
      return null
    }
    const method = structuredClone(AUTO)
    method.rotation.hyperparameters = { optimizer: 'auto', n_trials: 100, budget_seconds: 1 }
    const job = await waitFor((await started({ method })).id)
    expect(job).toMatchObject({ status: 'succeeded', arcana: { version: 1 } })
    expect(job.arcana.report!.auto.configurations).toHaveLength(1)
    expect(
      (await checkpointsOf(job.id)).data.map((made) => made.fine_tuned_model_checkpoint),
    ).toEqual([`${MODEL}:news@1`])
  })

  it('ends at its budget with its best fits', async ({ expect }) => {
    runner.intercept = async (request) => {
      if (request.url.endsWith('/v1/gradient')) await new Promise((done) => setTimeout(done, 10))
      return null
    }
    const method = structuredClone(AUTO)
    method.rotation.hyperparameters = { optimizer: 'auto', n_trials: 100, budget_seconds: 6 }
    const job = await waitFor((await started({ method })).id)
    expect(job.status).toBe('succeeded')
    const { auto } = job.arcana.report!
    expect(auto.configurations.length).toBeGreaterThan(1)
    expect(auto.configurations.length).toBeLessThan(100)
    // A call may be running when the budget ends.
    expect(auto.seconds_spent).toBeLessThan(8)
  })

  it('is bo under the scope all, also by default, and if a subspace is named', async ({
    expect,
  }) => {
    for (const rotation of [
      { scope: 'all' },
      { scope: 'all', hyperparameters: { optimizer: 'auto', n_trials: 9 } },
    ]) {
      const job = await started({ method: { type: 'rotation', rotation } })
      expect(job).toMatchObject({
        method: { rotation: { hyperparameters: { optimizer: 'bo', subspace: 'random' } } },
      })
      await client.call('POST', `/v1/fine_tuning/jobs/${job.id}/cancel`)
    }
    const hyperparameters = { subspace: 'gradient' }
    const named = await started({ method: { type: 'rotation', rotation: { hyperparameters } } })
    expect(named).toMatchObject({ method: { rotation: { hyperparameters: { optimizer: 'bo' } } } })
    await client.call('POST', `/v1/fine_tuning/jobs/${named.id}/cancel`)
  })

  it.for([
    ['budget_seconds', { optimizer: 'auto', budget_seconds: 0 }, {}],
    ['budget_seconds', { optimizer: 'bo', budget_seconds: 9 }, {}],
    ['budget_seconds', { budget_seconds: 9 }, { scope: 'all' }],
    ['learning_rate', { optimizer: 'auto', learning_rate: 0.1 }, {}],
    ['n_steps', { n_steps: 9 }, {}],
  ] as const)('refuses %s of %j', async ([field, hyperparameters, rest], { expect }) => {
    const method = { type: 'rotation', rotation: { hyperparameters, ...rest } }
    const response = await createJob({ method })
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { param: string } }>()
    expect(error.param).toBe(`method.rotation.hyperparameters.${field}`)
  })
})
