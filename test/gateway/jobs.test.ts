import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import { decodeAdapter } from '../../adapters/format/decode.ts'
import { decodeBinaryBody } from '../../src/protocol/runner-scoring.ts'
import { adapterKey } from '../../src/storage/blobs.ts'
import { client, projectId, runner, uploadExamples, useFreshProject } from './fresh-project.ts'
import { clientOf, makeProject, MODEL } from './harness.ts'
import {
  createJob,
  EXAMPLES,
  readEvents,
  readJob,
  trialsOf,
  upTo,
  waitFor,
  type Job,
} from './label-jobs.ts'
import { GEOMETRY } from './runner-double.ts'

useFreshProject()

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
          guard: {
            // Four examples prove nothing; whether they promise anything turns on the last bits of
            // the machine's exponential function.
            outcome: expect.stringMatching(/^(no_gain|promising)$/) as string,
            enforced: false,
            answer: 'adapter',
            folds: 4,
          },
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
    // The stored adapter equals the scored one to the bit.
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

  it('without a suffix gets a generated task name', async ({ expect }) => {
    const names = new Set<string>()
    for (const suffix of [undefined, null]) {
      const job = await createJob({ suffix })
      expect(job).toMatchObject({ user_provided_suffix: null })
      const done = await waitFor(job.id)
      expect(done.fine_tuned_model).toMatch(new RegExp(`^${MODEL}:task-[a-z0-9]{8}$`))
      names.add(done.fine_tuned_model!)
      expect((await client.chat({ model: done.fine_tuned_model! })).status).toBe(200)
    }
    expect(names.size).toBe(2)
  })

  it('takes the text of labels that are numbers or booleans, and warns', async ({ expect }) => {
    const lines = [1, 0, '1', true].map((label, i) => ({ input: `line ${i}`, label }))
    const training_file = await uploadExamples(lines)
    const job = await createJob({ training_file })
    const labels = ['1', '0', 'true']
    expect(job).toMatchObject({ method: { rotation: { labels } } })
    const { arcana } = await waitFor(job.id)
    expect(arcana.report).toMatchObject({
      warnings: [{ code: 'label_not_text', lines: [1, 2, 4] }, { code: 'base_knows_nothing' }],
    })
    const method = {
      type: 'rotation',
      rotation: { labels: [0, 1, true], hyperparameters: { optimizer: 'random', n_trials: 24 } },
    }
    expect(await createJob({ training_file, method })).toMatchObject({
      method: { rotation: { labels: ['0', '1', 'true'] } },
    })
  })

  it('accepts OpenAI’s older hyperparameters if they agree with the method', async ({ expect }) => {
    for (const hyperparameters of [
      {},
      null,
      { n_epochs: 'auto', batch_size: null },
      { optimizer: 'random', n_trials: 24 },
    ]) {
      const job = await createJob({ hyperparameters })
      expect(job).toMatchObject({
        hyperparameters: {},
        method: { rotation: { hyperparameters: { optimizer: 'random', n_trials: 24 } } },
      })
    }
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
      training_file: await uploadExamples([chat('a', 'x'), chat('b', 'y')]),
      validation_file: await uploadExamples([chat('c', 'y'), chat('d', 'x'), chat('e', 'x')]),
      // So few chats would count as texts otherwise.
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
      training_file: await uploadExamples(many),
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

  it('scores fewer examples per call with many labels', async ({ expect }) => {
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
      training_file: await uploadExamples(labelled),
      method: {
        type: 'rotation',
        rotation: { hyperparameters: { optimizer: 'gradient', n_steps: 1 } },
      },
    })
    await waitFor(job.id)
    // The base model, the adapter and three folds: whole groups of 32 prompts.
    expect(sizes).toEqual(Array(5).fill([64, 64, 64, 8]).flat())
  })

  it('that finds no better rotation fails with no_gain and publishes nothing', async ({
    expect,
  }) => {
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
  it('is refused with the name of the field', async ({ expect }) => {
    const training_file = await uploadExamples(EXAMPLES)
    const oneLabel = await uploadExamples([EXAMPLES[0]!, EXAMPLES[2]!])
    const many = Array.from({ length: 201 }, (_, i) => ({ input: 'x', label: `label ${i}` }))
    const manyLabels = await uploadExamples(many)
    const system = (content: string) => ({
      messages: [
        { role: 'system', content },
        { role: 'user', content: 'u' },
        { role: 'assistant', content: content },
      ],
    })
    const systems = await uploadExamples([system('a'), system('b')])
    const rotation = (fields: object) => ({ method: { type: 'rotation', rotation: fields } })
    const cases: [Record<string, unknown>, string, number][] = [
      [{ model: 'gpt-4o' }, 'model', 404],
      [{ suffix: '' }, 'suffix', 400],
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
      [{ hyperparameters: { n_epochs: 3 } }, 'hyperparameters.n_epochs', 400],
      [{ hyperparameters: { optimizer: 'auto', n_trials: 25 } }, 'hyperparameters.n_trials', 400],
      [
        { ...rotation({ hyperparameters: { n_trials: 24 } }), hyperparameters: { n_trials: 25 } },
        'hyperparameters.n_trials',
        400,
      ],
      [{ hyperparameters: { subspace: 'random' } }, 'hyperparameters.subspace', 400],
      [{ hyperparameters: [] }, 'hyperparameters', 400],
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
