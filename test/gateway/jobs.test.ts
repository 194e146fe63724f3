import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import { decodeAdapter } from '../../adapters/format/decode.ts'
import {
  decodeBinaryBody,
  gradientHeaderSchema,
  type GradientHeader,
} from '../../src/protocol/runner-scoring.ts'
import { adapterKey } from '../../src/storage/blobs.ts'
import { client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { clientOf, makeProject, MODEL } from './harness.ts'
import { GEOMETRY, refuse } from './runner-double.ts'

useFreshProject()

type Job = {
  id: string
  status: string
  error: { code: string; message: string } | null
  fine_tuned_model: string | null
  trained_tokens: number | null
  seed: number
  arcana: {
    version: number | null
    progress: { trials_done: number; trials_total: number; best_value: number; base_value: number }
    report: { train: { num_examples: number } } | null
  }
}

const EXAMPLES = [
  { input: 'goal', label: 'Sports' },
  { input: 'vote', label: 'World' },
  { input: 'match', label: 'Sports' },
  { input: 'treaty', label: 'World' },
]
const toLines = (examples: readonly object[]) =>
  examples.map((example) => JSON.stringify(example)).join('\n')

async function uploadLines(content: string): Promise<string> {
  const form = new FormData()
  form.append('file', new File([content], 'train.jsonl'))
  form.append('purpose', 'fine-tune')
  const response = await client.call('POST', '/v1/files', form)
  if (!response.ok) throw new Error(await response.text())
  return (await response.json<{ id: string }>()).id
}

/** Trials enough to find something, few enough for a test. */
const METHOD = {
  type: 'rotation',
  rotation: {
    instructions: 'Say the category.',
    hyperparameters: { optimizer: 'random', n_trials: 24 },
  },
}

/** A job whose guard only reports where `method` says nothing else: four examples can show nothing. */
async function createJob(overrides: Record<string, unknown> = {}): Promise<Job> {
  const body = {
    model: MODEL,
    training_file: await uploadLines(toLines(EXAMPLES)),
    suffix: 'news',
    seed: 7,
    method: METHOD as { rotation?: object } | undefined,
    ...overrides,
  }
  if (body.method?.rotation) {
    body.method = { ...body.method, rotation: { guard: 'report', ...body.method.rotation } }
  }
  const response = await client.call('POST', '/v1/fine_tuning/jobs', body)
  if (!response.ok) throw new Error(await response.text())
  return response.json<Job>()
}

const readJob = async (id: string) =>
  (await client.call('GET', `/v1/fine_tuning/jobs/${id}`)).json<Job>()

async function waitFor(id: string, statuses = ['succeeded', 'failed', 'cancelled']): Promise<Job> {
  return vi.waitFor(
    async () => {
      const job = await readJob(id)
      if (!statuses.includes(job.status)) throw new Error(`job is ${job.status}`)
      return job
    },
    { timeout: 20_000, interval: 20 },
  )
}

type Event = { id: string; type: string; message: string; data: { trial: number } | null }

async function readEvents(id: string): Promise<Event[]> {
  const events: Event[] = []
  for (let after = ''; ; after = `&after=${events.at(-1)!.id}`) {
    const page = await (
      await client.call('GET', `/v1/fine_tuning/jobs/${id}/events?limit=7${after}`)
    ).json<{ data: Event[]; has_more: boolean }>()
    events.push(...page.data)
    if (!page.has_more) return events
  }
}

const trialsOf = (events: readonly Event[]) =>
  events
    .filter(({ type }) => type === 'metrics')
    .map(({ data }) => data!.trial)
    .reverse()
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i)

describe('a job', () => {
  it('learns, publishes a live version, and reports', async ({ expect }) => {
    const created = await createJob({ metadata: { team: 'a' } })
    expect(created).toMatchObject({
      object: 'fine_tuning.job',
      status: expect.stringMatching(/queued|running/) as string,
      model: MODEL,
      fine_tuned_model: null,
      finished_at: null,
      error: null,
      seed: 7,
      user_provided_suffix: 'news',
      metadata: { team: 'a' },
      method: {
        type: 'rotation',
        rotation: {
          instructions: 'Say the category.',
          position: 'before',
          labels: ['Sports', 'World'],
          scope: 'generated',
          hyperparameters: { optimizer: 'random', n_trials: 24 },
        },
      },
    })
    const job = await waitFor(created.id)
    expect(job.error).toBeNull()
    expect(job).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: `${MODEL}:news`,
      trained_tokens: 40 * 24,
      arcana: {
        version: 1,
        progress: { trials_done: 24, trials_total: 24 },
        report: {
          guard: { outcome: 'inconclusive', enforced: false, answer: 'adapter', folds: 4 },
          optimizer: 'random',
          n_trials: 24,
          seed: 7,
          labels: ['Sports', 'World'],
          train: { num_examples: 4 },
          validation: null,
        },
      },
    })
    expect(job.arcana.progress.best_value).toBeGreaterThan(job.arcana.progress.base_value)
    // What is stored is what was scored, to the bit.
    expect(job.arcana.report).toMatchObject({ adapter_value: job.arcana.progress.best_value })

    const task = await (
      await client.call('GET', '/v1/tasks/news')
    ).json<{
      versions: { adapter_digest: string; layers: number[]; report: object }[]
    }>()
    expect(task).toMatchObject({
      name: 'news',
      live_version: 1,
      versions: [{ version: 1, is_live: true, job: job.id, instructions: 'Say the category.' }],
    })
    expect(task.versions[0]!.report).toEqual(job.arcana.report)
    const blob = await env.BLOBS.get(adapterKey(projectId, task.versions[0]!.adapter_digest))
    const decoded = decodeAdapter(await blob!.bytes(), GEOMETRY)
    expect(decoded.ok).toBe(true)
    if (decoded.ok)
      expect([...decoded.value.rotation.layers.keys()]).toEqual(task.versions[0]!.layers)

    const answer = await client.chat({ model: job.fine_tuned_model! })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('x-arcana-version')).toBe('1')
    expect(runner.generateRequests.at(-1)?.messages?.[0]).toEqual({
      role: 'system',
      content: 'Say the category.',
    })

    const events = await readEvents(job.id)
    expect(trialsOf(events)).toEqual(upTo(24))
    expect(events[0]?.message).toContain('Published news@1')
    expect(events.at(-1)?.message).toContain('Created')
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length)
  })

  it('with defaults is auto with 40 s and a seed of its own', async ({ expect }) => {
    const job = await createJob({ method: undefined, seed: undefined })
    expect(job).toMatchObject({
      method: {
        rotation: { hyperparameters: { optimizer: 'auto', n_trials: 32, budget_seconds: 40 } },
      },
    })
    expect(Number.isInteger(job.seed)).toBe(true)
    await client.call('POST', `/v1/fine_tuning/jobs/${job.id}/cancel`)
  })

  it('gives the same adapter for the same seed', async ({ expect }) => {
    const digests: string[] = []
    for (const suffix of ['one', 'two', 'three']) {
      const job = await createJob({ suffix, seed: suffix === 'three' ? 8 : 7 })
      await waitFor(job.id)
      const task = await (
        await client.call('GET', `/v1/tasks/${suffix}`)
      ).json<{
        versions: { adapter_digest: string }[]
      }>()
      digests.push(task.versions[0]!.adapter_digest)
    }
    expect(digests[0]).toBe(digests[1])
    expect(digests[2]).not.toBe(digests[0])
  })

  it('takes the file’s own system message as its frame, and a validation file', async ({
    expect,
  }) => {
    const chat = (text: string, answer: string) => ({
      messages: [
        { role: 'system', content: 'From the file.' },
        { role: 'user', content: text },
        { role: 'assistant', content: ` ${answer}\n` },
      ],
    })
    const job = await createJob({
      training_file: await uploadLines(toLines([chat('a', 'x'), chat('b', 'y')])),
      validation_file: await uploadLines(toLines([chat('c', 'y'), chat('d', 'x'), chat('e', 'x')])),
      // So few chats would be taken for texts of their own.
      method: {
        type: 'rotation',
        rotation: { objective: 'label', hyperparameters: { optimizer: 'bo', n_trials: 12 } },
      },
    })
    expect(job).toMatchObject({
      method: { rotation: { instructions: 'From the file.', labels: ['x', 'y'] } },
    })
    expect(await waitFor(job.id)).toMatchObject({
      status: 'succeeded',
      arcana: { report: { train: { num_examples: 2 }, validation: { num_examples: 3 } } },
    })
    const datasets = [...runner.datasets.values()]
    expect(datasets[0]?.examples[0]).toEqual({
      messages: [
        { role: 'system', content: 'From the file.' },
        { role: 'user', content: 'a' },
      ],
      label: 0,
    })
    expect((await env.BLOBS.list({ prefix: `${projectId}/jobs/` })).objects).toHaveLength(0)
  })

  it('scores many examples in parts, each once', async ({ expect }) => {
    const many = Array.from({ length: 1100 }, (_, i) => ({
      input: `example ${i}`,
      label: i % 3 === 0 ? 'a' : 'b',
    }))
    const job = await createJob({
      training_file: await uploadLines(toLines(many)),
      method: {
        type: 'rotation',
        rotation: { hyperparameters: { optimizer: 'random', n_trials: 6 } },
      },
    })
    const { arcana } = await waitFor(job.id)
    const confusion = (
      arcana.report as unknown as { train: { base: { confusion: number[][] } } } | null
    )?.train.base.confusion
    expect(confusion?.map((row) => row.reduce((sum, n) => sum + n, 0))).toEqual([367, 733])
    // 1100 examples of at most 512 a call, for 6 trials of the job and of each of three folds, then for
    // the base model, the adapter and what the folds found.
    expect(runner.callsTo('POST /v1/score')).toBe(3 * (6 + 3 * 6 + 2 + 3))
  })

  it('scores fewer examples at once where labels are many', async ({ expect }) => {
    const labelled = Array.from({ length: 200 }, (_, i) => ({
      input: `example ${i}`,
      label: `label ${i % 100}`,
    }))
    const sizes: number[] = []
    runner.intercept = async (request) => {
      if (!request.url.endsWith('/v1/score')) return null
      const split = decodeBinaryBody(new Uint8Array(await request.clone().arrayBuffer()))!
      const header = JSON.parse(split.headerJson) as {
        num_candidates: number
        examples: number[]
      }
      sizes.push(header.num_candidates * header.examples.length)
      return null
    }
    const job = await createJob({
      training_file: await uploadLines(toLines(labelled)),
      method: {
        type: 'rotation',
        rotation: { hyperparameters: { optimizer: 'gradient', n_steps: 1 } },
      },
    })
    await waitFor(job.id)
    // The base model, the adapter and three folds: whole groups of 32 prompts.
    expect(sizes).toEqual(Array(5).fill([64, 64, 64, 8]).flat())
  })

  it('that finds nothing better fails with no_gain and publishes nothing', async ({ expect }) => {
    runner.scoreLabels = (angles) => {
      const loss = -angles.reduce((sum, angle) => sum + Math.abs(angle), 0)
      return [Math.log(0.5) + loss, Math.log(0.5) + loss]
    }
    const job = await waitFor((await createJob()).id)
    expect(job).toMatchObject({
      status: 'failed',
      error: { code: 'no_gain' },
      fine_tuned_model: null,
    })
    expect((await client.call('GET', '/v1/tasks/news')).status).toBe(404)
  })

  it('is cancelled between rounds, once', async ({ expect }) => {
    runner.intercept = async (request) => {
      if (request.url.endsWith('/v1/score')) await new Promise((done) => setTimeout(done, 50))
      return null
    }
    const { id } = await createJob({
      method: {
        type: 'rotation',
        rotation: { hyperparameters: { optimizer: 'bo', n_trials: 1000 } },
      },
    })
    await waitFor(id, ['running'])
    const cancelled = await client.call('POST', `/v1/fine_tuning/jobs/${id}/cancel`)
    expect(cancelled.status).toBe(200)
    expect(await cancelled.json()).toMatchObject({ id, status: 'cancelled' })
    const after = (await readJob(id)).arcana.progress.trials_done
    await new Promise((done) => setTimeout(done, 300))
    expect((await readJob(id)).arcana.progress.trials_done).toBe(after)
    const again = await client.call('POST', `/v1/fine_tuning/jobs/${id}/cancel`)
    expect(again.status).toBe(400)
    expect(await (await client.call('GET', '/v1/fine_tuning/jobs')).json()).toMatchObject({
      data: [{ id, status: 'cancelled' }],
    })
    expect((await client.call('GET', '/v1/tasks/news')).status).toBe(404)
  })

  it('is listed in pages, newest first, and belongs to its project', async ({ expect }) => {
    const ids: string[] = []
    for (let i = 0; i < 3; i++) ids.push((await createJob({ suffix: `t${i}` })).id)
    for (const id of ids) await waitFor(id)
    const page = await (
      await client.call('GET', '/v1/fine_tuning/jobs?limit=2')
    ).json<{
      data: Job[]
      has_more: boolean
    }>()
    expect(page.has_more).toBe(true)
    expect(page.data.map(({ id }) => id)).toEqual([ids[2], ids[1]])
    await vi.waitFor(async () => {
      const rest = await client.call('GET', `/v1/fine_tuning/jobs?limit=2&after=${ids[1]!}`)
      expect(await rest.json()).toMatchObject({
        data: [{ id: ids[0], status: 'succeeded' }],
        has_more: false,
      })
    })
    const stranger = clientOf((await makeProject()).key)
    for (const [method, path] of [
      ['GET', ids[0]!],
      ['GET', `${ids[0]!}/events`],
      ['POST', `${ids[0]!}/cancel`],
      ['GET', 'ftjob-none'],
    ] as const) {
      const response = await stranger.call(method, `/v1/fine_tuning/jobs/${path}`)
      expect(response.status).toBe(404)
      expect(await response.json()).toMatchObject({ error: { code: 'job_not_found' } })
    }
  })
})

describe('a job that cannot be made', () => {
  it('is refused with the field at fault', async ({ expect }) => {
    const training_file = await uploadLines(toLines(EXAMPLES))
    const oneLabel = await uploadLines(toLines([EXAMPLES[0]!, EXAMPLES[2]!]))
    const many = Array.from({ length: 201 }, (_, i) => ({ input: 'x', label: `label ${i}` }))
    const manyLabels = await uploadLines(toLines(many))
    const system = (content: string) => ({
      messages: [
        { role: 'system', content },
        { role: 'user', content: 'u' },
        { role: 'assistant', content: content },
      ],
    })
    const systems = await uploadLines(toLines([system('a'), system('b')]))
    const rotation = (fields: object) => ({ method: { type: 'rotation', rotation: fields } })
    const cases: [Record<string, unknown>, string, number][] = [
      [{ model: 'gpt-4o' }, 'model', 404],
      [{ suffix: undefined }, 'suffix', 400],
      [{ suffix: 'News' }, 'suffix', 400],
      [{ suffix: 'base' }, 'suffix', 400],
      [{ training_file: undefined }, 'training_file', 400],
      [{ training_file: 'file-none' }, 'training_file', 400],
      [{ validation_file: 'file-none' }, 'validation_file', 400],
      [{ training_file: oneLabel }, 'training_file', 400],
      [{ training_file: manyLabels }, 'training_file', 400],
      [{ training_file: systems }, 'training_file', 400],
      [{ validation_file: manyLabels }, 'validation_file', 400],
      [rotation({ labels: ['Sports', 'Business'] }), 'training_file', 400],
      [rotation({ labels: ['Sports'] }), 'method.rotation.labels', 400],
      [rotation({ labels: ['a', 'a'] }), 'method.rotation.labels', 400],
      [rotation({ labels: many.map(({ label }) => label) }), 'method.rotation.labels', 400],
      [rotation({ scope: 'some' }), 'method.rotation.scope', 400],
      [rotation({ rank: 8 }), 'method.rotation.rank', 400],
      [
        rotation({ hyperparameters: { optimizer: 'simplex' } }),
        'method.rotation.hyperparameters.optimizer',
        400,
      ],
      [
        rotation({ hyperparameters: { n_trials: 0 } }),
        'method.rotation.hyperparameters.n_trials',
        400,
      ],
      [{ method: { type: 'supervised', supervised: {} } }, 'method.type', 400],
      [{ hyperparameters: { n_epochs: 3 } }, 'hyperparameters', 400],
      [{ seed: 'x' }, 'seed', 400],
    ]
    for (const [overrides, param, status] of cases) {
      const response = await client.call('POST', '/v1/fine_tuning/jobs', {
        model: MODEL,
        training_file,
        suffix: 'news',
        ...overrides,
      })
      expect(response.status, param).toBe(status)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
    const named = await client.call('POST', '/v1/fine_tuning/jobs', {
      model: MODEL,
      training_file,
      suffix: 'news',
      method: { type: 'supervised' },
    })
    const { error } = await named.json<{ error: { message: string } }>()
    expect(error.message).toContain('"supervised"')
    expect(await (await client.call('GET', '/v1/fine_tuning/jobs')).json()).toMatchObject({
      data: [],
    })
    expect((await env.BLOBS.list({ prefix: `${projectId}/jobs/` })).objects).toHaveLength(0)
  })
})

describe('a job whose world fails', () => {
  it('waits for a runner that is down, and goes on', async ({ expect }) => {
    runner.isDown = true
    const { id } = await createJob()
    await vi.waitFor(
      async () => {
        expect((await readEvents(id))[0]?.message).toContain('Waiting')
      },
      { timeout: 5_000 },
    )
    expect((await readJob(id)).status).toBe('queued')
    runner.isDown = false
    expect((await waitFor(id)).status).toBe('succeeded')
  })

  it('gives a runner that lost its datasets the examples again', async ({ expect }) => {
    let numScores = 0
    runner.intercept = (request) => {
      if (request.url.endsWith('/v1/score') && ++numScores % 3 === 0) runner.datasets.clear()
      return null
    }
    const { id } = await createJob()
    expect((await waitFor(id)).status).toBe('succeeded')
    expect(trialsOf(await readEvents(id))).toEqual(upTo(24))
    expect(runner.callsTo('PUT /v1/datasets')).toBeGreaterThan(1)
  })

  it('loses and doubles nothing when its object is killed between and within rounds', async ({
    expect,
  }) => {
    runner.intercept = async (request) => {
      if (request.url.endsWith('/v1/score')) await new Promise((done) => setTimeout(done, 30))
      return null
    }
    const uninterrupted = await createJob({ suffix: 'calm' })
    await waitFor(uninterrupted.id)
    const { id } = await createJob({ suffix: 'news' })
    for (let kill = 0; kill < 6; kill++) {
      await new Promise((done) => setTimeout(done, 40))
      await abortAllDurableObjects()
    }
    expect((await waitFor(id)).status).toBe('succeeded')
    expect(trialsOf(await readEvents(id))).toEqual(upTo(24))
    const [calm, killed] = await Promise.all(
      ['calm', 'news'].map(async (name) =>
        (await client.call('GET', `/v1/tasks/${name}`)).json<{
          versions: { adapter_digest: string }[]
        }>(),
      ),
    )
    expect(killed!.versions).toHaveLength(1)
    expect(killed!.versions[0]!.adapter_digest).toBe(calm!.versions[0]!.adapter_digest)
  })

  it('begins its trials anew where the build of the model changed', async ({ expect }) => {
    runner.intercept = async (request) => {
      if (request.url.endsWith('/v1/score')) await new Promise((done) => setTimeout(done, 100))
      return null
    }
    const { id } = await createJob()
    // By this job's own progress: a job that an earlier test left behind may score too.
    await vi.waitFor(async () => {
      if ((await readJob(id)).arcana.progress.trials_done < 8) throw new Error('not there yet')
    })
    runner.buildDigest = 'e'.repeat(64)
    const job = await waitFor(id)
    expect(job).toMatchObject({
      status: 'succeeded',
      arcana: { progress: { trials_done: 24 }, report: { build_digest: 'e'.repeat(64) } },
    })
    const events = await readEvents(id)
    expect(events.some(({ message }) => message.includes('another build'))).toBe(true)
  })

  it('fails at once where the runner refuses the examples', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.includes('/v1/datasets/')
        ? refuse(400, 'context_length_exceeded', 'unserviceable')
        : null
    const job = await waitFor((await createJob()).id)
    expect(job).toMatchObject({
      status: 'failed',
      error: { code: 'context_length_exceeded', param: 'training_file' },
    })
  })
})

describe('a job by bo', () => {
  const bo = (rest: object = {}, hyperparameters: object = {}) => ({
    type: 'rotation',
    rotation: {
      instructions: 'Say the category.',
      hyperparameters: { optimizer: 'bo', n_trials: 20, ...hyperparameters },
      ...rest,
    },
  })
  const digestOf = ({ arcana }: Job) =>
    (arcana.report as unknown as { adapter_digest: string }).adapter_digest

  it('searches along the gradient of each example, asked for once', async ({ expect }) => {
    const asked: (readonly number[] | undefined)[] = []
    runner.intercept = async (request) => {
      if (!request.url.endsWith('/v1/gradient')) return null
      const split = decodeBinaryBody(new Uint8Array(await request.clone().arrayBuffer()))!
      asked.push(gradientHeaderSchema.parse(JSON.parse(split.headerJson)).examples)
      return null
    }
    const job = await waitFor((await createJob({ method: bo() })).id)
    expect(job).toMatchObject({
      status: 'succeeded',
      arcana: { progress: { trials_done: 20 }, report: { optimizer: 'bo', n_trials: 20 } },
    })
    expect(asked.flat().sort()).toEqual(upTo(EXAMPLES.length))
    expect(asked.every((examples) => examples?.length === 1)).toBe(true)
    const events = await readEvents(job.id)
    expect(events.filter(({ message }) => message.includes('directions')).length).toBe(1)
  })

  it('finds the same after its object is lost, before and after it has directions', async ({
    expect,
  }) => {
    const whole = await waitFor((await createJob({ method: bo(), suffix: 'whole' })).id)
    for (const [path, lost] of [
      ['/v1/gradient', 2],
      ['/v1/score', 6],
    ] as const) {
      let numCalls = 0
      runner.intercept = async (request) => {
        if (!request.url.endsWith(path)) return null
        numCalls += 1
        if (numCalls === lost) await new Promise((done) => setTimeout(done, 1000))
        return null
      }
      const suffix = `cut-${lost}`
      const created = await createJob({ method: bo(), suffix })
      await vi.waitFor(() => {
        if (numCalls < lost) throw new Error('not there yet')
      })
      await abortAllDurableObjects()
      const cut = await waitFor(created.id)
      expect(cut.status).toBe('succeeded')
      expect(digestOf(cut)).toBe(digestOf(whole))
    }
  })

  it('looks for its directions anew where the build of the model changed', async ({ expect }) => {
    let numCalls = 0
    runner.intercept = (request) => {
      if (request.url.endsWith('/v1/score') && ++numCalls === 4) runner.buildDigest = 'e'.repeat(64)
      return null
    }
    const job = await waitFor((await createJob({ method: bo() })).id)
    expect(job).toMatchObject({
      status: 'succeeded',
      arcana: { progress: { trials_done: 20 }, report: { build_digest: 'e'.repeat(64) } },
    })
    expect(runner.callsTo('POST /v1/gradient')).toBe(2 * EXAMPLES.length)
  })

  it.for([
    ['asked for', { subspace: 'random' }, {}],
    ['under the scope all', {}, { scope: 'all' }],
  ] as const)('searches random directions %s', async ([, hyperparameters, rest], { expect }) => {
    const job = await createJob({ method: bo(rest, hyperparameters) })
    expect(job).toMatchObject({
      method: { rotation: { hyperparameters: { optimizer: 'bo', subspace: 'random' } } },
    })
    expect((await waitFor(job.id)).status).toBe('succeeded')
    expect(runner.callsTo('POST /v1/gradient')).toBe(0)
  })
})

describe('a job by gradient', () => {
  const GRADIENT = {
    type: 'rotation',
    rotation: {
      instructions: 'Say the category.',
      hyperparameters: { optimizer: 'gradient', n_steps: 12, learning_rate: 0.1 },
    },
  }

  /** A job whose sixth call takes a second, once that is under way. */
  async function heldInStep(suffix: string) {
    let numCalls = 0
    runner.intercept = async (request) => {
      if (!request.url.endsWith('/v1/gradient')) return null
      numCalls += 1
      if (numCalls === 6) await new Promise((done) => setTimeout(done, 1000))
      return null
    }
    const created = await createJob({ method: GRADIENT, suffix })
    await vi.waitFor(() => {
      if (numCalls < 6) throw new Error('not there yet')
    })
    return { created, countCalls: () => numCalls }
  }

  it('descends, averages its steps, and publishes', async ({ expect }) => {
    const created = await createJob({ method: GRADIENT })
    expect(created).toMatchObject({
      method: {
        rotation: {
          hyperparameters: { ...GRADIENT.rotation.hyperparameters, prompt_dropout: 0.3 },
        },
      },
    })
    const job = await waitFor(created.id)
    expect(job.error).toBeNull()
    expect(job).toMatchObject({
      status: 'succeeded',
      arcana: {
        progress: { trials_done: 13, trials_total: 13 },
        report: {
          guard: { answer: 'adapter', folds: 4, trials_per_fold: 13 },
          optimizer: 'gradient',
          best_trial: 12,
          gradient: { n_steps: 12, learning_rate: 0.1, prompt_dropout: 0.3, n_folds: 4 },
        },
      },
    })
    const { gradient } = job.arcana.report as unknown as {
      gradient: { held_out_loss: number; base_loss: number }
    }
    expect(gradient.held_out_loss).toBeLessThan(gradient.base_loss)
    const steps = (await readEvents(job.id)).filter(({ type }) => type === 'metrics').reverse()
    expect(steps.map(({ data }) => data!.trial)).toEqual(upTo(13))
    const losses = steps.map(({ data }) => data as unknown as Record<string, number | null>)
    for (const { train_loss, value } of losses) expect(value).toBe(-train_loss!)
    for (const [i, { held_out_loss }] of losses.entries()) {
      if (i > 0) expect(held_out_loss).toBeLessThan(losses[i - 1]!.held_out_loss!)
    }
    // One call a step, for all folds together; one before them, and one for what the last came to.
    expect(runner.callsTo('POST /v1/gradient')).toBe(1 + 12 + 1)
  })

  it('takes the same steps after its object is lost in the middle', async ({ expect }) => {
    const whole = await waitFor((await createJob({ method: GRADIENT, suffix: 'whole' })).id)
    const { created, countCalls } = await heldInStep('cut')
    await abortAllDurableObjects()
    const cut = await waitFor(created.id)
    expect(cut.status).toBe('succeeded')
    // The step under way is done again, and no other.
    expect(countCalls()).toBe(15)
    const digestOf = (job: Job) =>
      (job.arcana.report as unknown as { adapter_digest: string }).adapter_digest
    expect(digestOf(cut)).toBe(digestOf(whole))
  })

  it('begins anew, moments and all, where the build of the model changed', async ({ expect }) => {
    const whole = await waitFor((await createJob({ method: GRADIENT, suffix: 'whole' })).id)
    let numCalls = 0
    runner.intercept = (request) => {
      if (request.url.endsWith('/v1/gradient') && ++numCalls === 5) {
        runner.buildDigest = 'e'.repeat(64)
      }
      return null
    }
    const moved = await waitFor((await createJob({ method: GRADIENT, suffix: 'moved' })).id)
    expect(moved).toMatchObject({
      status: 'succeeded',
      arcana: { progress: { trials_done: 13 }, report: { build_digest: 'e'.repeat(64) } },
    })
    expect(moved.arcana.progress.best_value).toBe(whole.arcana.progress.best_value)
  })

  it('begins anew where another release wrote the state of its search', async ({ expect }) => {
    const whole = await waitFor((await createJob({ method: GRADIENT, suffix: 'whole' })).id)
    const { created } = await heldInStep('outdated')
    const stub = env.JOBS.get(env.JOBS.idFromName(`${projectId}/${created.id}`))
    await runInDurableObject(stub, (_, { storage }) => {
      const [row] = storage.sql.exec<{ bytes: ArrayBuffer }>('SELECT bytes FROM search').toArray()
      const bytes = new Uint8Array(row!.bytes)
      // The version stands first.
      bytes[0] = bytes[0]! + 1
      storage.sql.exec('UPDATE search SET bytes = ? WHERE piece = 0', bytes.buffer)
    })
    await abortAllDurableObjects()
    const anew = await waitFor(created.id)
    expect(anew).toMatchObject({ status: 'succeeded', arcana: { progress: { trials_done: 13 } } })
    expect(anew.arcana.progress.best_value).toBe(whole.arcana.progress.best_value)
    const messages = (await readEvents(created.id)).map(({ message }) => message)
    expect(messages).toContain(
      'The service was upgraded to another way to search; the trials begin anew.',
    )
  })

  it('publishes nothing where no step helps examples that were held out', async ({ expect }) => {
    runner.slopes = (angles) => new Float32Array(angles.length).fill(1)
    const job = await waitFor((await createJob({ method: GRADIENT })).id)
    expect(job).toMatchObject({ status: 'failed', error: { code: 'no_gain' } })
  })

  it('sends many examples in parts whose sum is the whole', async ({ expect }) => {
    const many = Array.from({ length: 200 }, (_, i) => ({
      input: `example ${i}`,
      label: i % 2 === 0 ? 'a' : 'b',
    }))
    const method = structuredClone(GRADIENT)
    method.rotation.hyperparameters.n_steps = 2
    const seen: GradientHeader[] = []
    runner.intercept = async (request) => {
      if (!request.url.endsWith('/v1/gradient')) return null
      const split = decodeBinaryBody(new Uint8Array(await request.clone().arrayBuffer()))!
      seen.push(gradientHeaderSchema.parse(JSON.parse(split.headerJson)))
      return null
    }
    const job = await createJob({ training_file: await uploadLines(toLines(many)), method })
    expect((await waitFor(job.id)).status).toBe('succeeded')
    // One row an example at the identity, all in one call; then five rows, at most 512 in a call.
    const [first, ...steps] = seen
    const order = first!.examples!
    expect([...order].sort((a, b) => a - b)).toEqual(upTo(200))
    expect(first!.computed_examples).toBeUndefined()
    // Batch by batch in the same order, so that prompts are computed once; a step takes a batch.
    expect(steps).toHaveLength(3)
    for (const [i, { examples, computed_examples: computed }] of steps.entries()) {
      expect(order.join()).toContain(examples!.join())
      expect(computed!.length).toBeLessThanOrEqual(32)
      const places = computed!.map((example) => order.indexOf(example))
      expect(Math.max(...places) - Math.min(...places)).toBe(computed!.length - 1)
      const before = steps.slice(0, i).flatMap((step) => step.computed_examples!)
      expect(before.filter((example) => computed!.includes(example))).toEqual([])
    }
  })

  it.for([
    ['n_trials', { optimizer: 'gradient', n_trials: 10 }, {}],
    ['n_steps', { optimizer: 'bo', n_steps: 10 }, {}],
    ['learning_rate', { optimizer: 'gradient', learning_rate: 7 }, {}],
    ['n_steps', { optimizer: 'gradient', n_steps: 100_000 }, {}],
    ['prompt_dropout', { optimizer: 'gradient', prompt_dropout: 1 }, {}],
    ['prompt_dropout', { optimizer: 'auto', prompt_dropout: 0.5 }, {}],
    ['scope', { optimizer: 'gradient' }, { scope: 'all' }],
    ['scope', { subspace: 'gradient' }, { scope: 'all' }],
    ['subspace', { optimizer: 'random', subspace: 'random' }, {}],
    ['subspace', { optimizer: 'bo', subspace: 'all' }, {}],
  ] as const)('refuses %s of %j', async ([field, hyperparameters, rest], { expect }) => {
    const response = await client.call('POST', '/v1/fine_tuning/jobs', {
      model: MODEL,
      training_file: await uploadLines(toLines(EXAMPLES)),
      suffix: 'news',
      method: { type: 'rotation', rotation: { hyperparameters, ...rest } },
    })
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { param: string } }>()
    expect(error.param).toContain(field)
  })
})
