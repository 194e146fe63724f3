import { abortAllDurableObjects } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import {
  decodeBinaryBody,
  gradientHeaderSchema,
  scoreHeaderSchema,
} from '../../src/protocol/runner-scoring.ts'
import type { GuardReport, JobReport } from '../../src/protocol/openai/job-report.ts'
import { reportKey } from '../../src/storage/blobs.ts'
import {
  accepted,
  client,
  finishJob,
  postJob,
  projectId,
  runner,
  useFreshProject,
} from './fresh-project.ts'
import { MODEL, publishTask } from './harness.ts'
import { RunnerDouble } from './runner-double.ts'

useFreshProject()

type Job = {
  id: string
  status: string
  error: { code: string; message: string } | null
  fine_tuned_model: string | null
  arcana: {
    version: number | null
    progress: { guard_trials_done: number; guard_trials_total: number }
    report: JobReport | null
  }
}

const LABELS = ['Sports', 'World'] as const
type Line = { readonly input: string; readonly label: string }
const lines = (count: number): Line[] =>
  Array.from({ length: count }, (_, i) => ({ input: `line ${i}`, label: LABELS[i % 2]! }))

const RANDOM = { optimizer: 'random', n_trials: 24 }
const METHOD = { guard: 'enforce', hyperparameters: RANDOM }
const start = (
  rotation: Record<string, unknown>,
  examples: readonly Line[] = lines(20),
  suffix = 'news',
): Promise<Job> => accepted(postJob({ ...METHOD, ...rotation }, examples, { suffix }))
const GRADIENT = { optimizer: 'gradient', n_steps: 12, learning_rate: 0.1 }

const finish = (id: string) => finishJob<Job>(id)
const guardOf = ({ arcana }: Job): GuardReport => arcana.report!.guard

const normalised = (logits: readonly number[]): number[] => {
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0))
  return logits.map((logit) => logit - total)
}
const numberOf = ({ messages }: { readonly messages: readonly { readonly content: string }[] }) =>
  Number(/\d+/.exec(messages.at(-1)!.content)![0])

/** A base model that knows the answer but prefers one label. */
const knowsButLeans = (angles: Float32Array, example: { label: number }) => {
  const right = 2 - Math.abs(angles[0] ?? 0)
  return normalised([6 + (example.label === 0 ? right : -right), 0])
}
/** One that leans by a line's number, of which the label says nothing, whatever the angles. */
const knowsNothing: typeof runner.scoreLabels = (angles, example) => {
  const leaning = (numberOf(example) >> 1) % 2 === 0 ? 1 : -1
  return normalised([leaning * (1 + (angles[0] ?? 0)), 0])
}
/** Angles that help seven lines of ten and harm the others. */
const helpsMost: typeof runner.scoreLabels = (angles, example) => {
  const gain = (angles[0] ?? 0) * (numberOf(example) % 10 < 3 ? -1 : 1)
  return normalised([example.label === 0 ? gain : 0, example.label === 1 ? gain : 0])
}

describe('the guard', () => {
  it.for([
    ['random', RANDOM, 16],
    ['gradient', GRADIENT, 13],
  ] as const)(
    'publishes what helps, found by %s',
    async ([, hyperparameters, trials], { expect }) => {
      const job = await finish((await start({ hyperparameters })).id)
      expect(job.error).toBeNull()
      expect(job).toMatchObject({
        status: 'succeeded',
        arcana: {
          version: 1,
          report: {
            guard: {
              outcome: 'proven',
              answer: 'adapter',
              against: 'base',
              unit: 'balanced accuracy',
              more_examples: null,
              forced: false,
              level: 0.05,
              folds: 5,
              trials_per_fold: trials,
            },
            warnings: [],
          },
        },
      })
      const guard = guardOf(job)
      expect(guard.p_value).toBeLessThanOrEqual(0.05)
      expect(guard.gain).toBeGreaterThan(0)
      expect(guard.interval![0]).toBeLessThanOrEqual(guard.gain)
      expect(Object.keys(guard.gains).sort()).toEqual(['base', 'bias_only', 'calibrated_base'])
      expect(guard.summary).toMatch(
        /^The adapter helps: it answers \d+ of 20 examples right that it did not learn from/,
      )
      for (const metrics of Object.values(guard.out_of_fold)) {
        expect(metrics.confusion.flat().reduce((sum, n) => sum + n, 0)).toBe(20)
        expect(metrics.per_class.map(({ num_examples }) => num_examples)).toEqual([10, 10])
      }
      expect(guard.accuracy_by_coverage[0]?.coverage).toBe(1)
      const { versions } = await (
        await client.call('GET', '/v1/tasks/news')
      ).json<{ versions: { temperature: number; report: object }[] }>()
      expect(versions[0]!.temperature).toBe(job.arcana.report!.temperature)
      expect(versions[0]!.report).toEqual(job.arcana.report)
    },
  )

  it('publishes a label bias without angles if that does as well', async ({ expect }) => {
    runner.scoreLabels = knowsButLeans
    const job = await finish((await start({})).id)
    expect(job).toMatchObject({
      status: 'succeeded',
      arcana: {
        report: {
          guard: { outcome: 'bias_only', answer: 'bias_only', forced: false },
          adapter_digest: null,
          layers: [],
          train: { base: { accuracy: 0.5 }, adapter: { accuracy: 1 } },
        },
      },
    })
    // The adapter is better than the base model too, but no better than the bias.
    expect(guardOf(job).compared.adapter.gains.bias_only).toBeLessThanOrEqual(0)
    expect(guardOf(job).summary).toMatch(/^A label bias alone helps: .*The rotation adds nothing/)
    const [first, second] = job.arcana.report!.bias
    expect(first! - second!).toBeLessThan(-2)

    const answer = await client.chat({ model: job.fine_tuned_model! })
    expect(answer.status).toBe(200)
    expect(await answer.json()).toMatchObject({
      arcana: { task: 'news', version: 1, adapters: [], layers: [] },
    })
    expect(runner.generateRequests.at(-1)?.arms).toMatchObject([
      { adapters: [], scope: 'generated', bias: job.arcana.report!.bias },
    ])
    expect(runner.callsTo('PUT /v1/adapters')).toBe(0)
    const file = await client.call('GET', '/v1/tasks/news/versions/1/adapter')
    expect(file.status).toBe(400)
    expect(await file.json()).toMatchObject({ error: { code: 'no_adapter' } })
    // In a sum a bias-only version adds its bias and no adapter.
    const { digest } = await publishTask(projectId, 'other', { labels: [...LABELS] })
    const sum = await client.chat({}, { 'x-task': 'other+news*0.5' })
    expect(sum.status).toBe(200)
    expect(runner.generateRequests.at(-1)?.arms).toMatchObject([
      { adapters: [{ digest, weight: 1 }], bias: [first! / 2, second! / 2] },
    ])
  })

  it('withholds an adapter that does not help, and publishes it when forced', async ({
    expect,
  }) => {
    runner.scoreLabels = knowsNothing
    const job = await finish((await start({})).id)
    expect(job.status).toBe('failed')
    expect(job.error?.code).toBe('no_gain')
    expect(job.error?.message).toMatch(
      /^Nothing was published\. Nothing learnt helps: of 20 examples/,
    )
    expect(job.fine_tuned_model).toBeNull()
    const guard = guardOf(job)
    expect(guard).toMatchObject({ outcome: job.error!.code, forced: false })
    expect((await client.call('GET', '/v1/tasks/news')).status).toBe(404)
    expect(await env.BLOBS.head(reportKey(projectId, job.id))).toBeNull()

    const path = `/v1/fine_tuning/jobs/${job.id}/publish`
    expect((await client.call('POST', path, {})).status).toBe(400)
    expect((await client.call('POST', path, { force: true })).status).toBe(200)
    const forced = await finish(job.id)
    expect(forced).toMatchObject({
      status: 'succeeded',
      error: null,
      fine_tuned_model: `${MODEL}:news`,
      arcana: { version: 1, report: { guard: { outcome: guard.outcome, forced: true } } },
    })
    const { versions } = await (
      await client.call('GET', '/v1/tasks/news')
    ).json<{ versions: { report: { guard: GuardReport } }[] }>()
    expect(versions[0]!.report.guard.forced).toBe(true)
    const again = await client.call('POST', path, { force: true })
    expect(again.status).toBe(400)
    expect(await again.json()).toMatchObject({ error: { code: 'nothing_to_publish' } })
  })

  it('warns if and only if nothing shows that the base model knows the task', async ({
    expect,
  }) => {
    const warningsOf = async (job: Job) => {
      const events = await client.call('GET', `/v1/fine_tuning/jobs/${job.id}/events?limit=1000`)
      const { data } = await events.json<{ data: { level: string; message: string }[] }>()
      const told = data.filter(({ level }) => level === 'warn').map(({ message }) => message)
      const { warnings, base_knowledge } = job.arcana.report!
      return { warnings, told, knowledge: base_knowledge }
    }
    runner.scoreLabels = knowsNothing
    const lost = await warningsOf(await finish((await start({ guard: 'report' })).id))
    expect(lost.knowledge).toMatchObject({ level: 0.05, num_examples: 20 })
    expect(lost.knowledge.p_value).toBeGreaterThan(0.05)
    expect(lost.warnings).toMatchObject([
      {
        code: 'base_knows_nothing',
        message: expect.stringMatching(
          /over 20 examples .* base 0\.50, calibrated .* chance is 0\.50/,
        ) as string,
        lines: [],
      },
    ])
    expect(lost.told).toContain(lost.warnings[0]!.message)

    // This model answers every line with one label but knows the task: its accuracy is chance.
    runner.scoreLabels = knowsButLeans
    const leaning = await finish((await start({}, lines(20), 'leaning')).id)
    expect(guardOf(leaning).out_of_fold.base.balanced_accuracy).toBe(0.5)
    const known = await warningsOf(leaning)
    expect(known.knowledge.p_value).toBeLessThan(0.001)
    expect(known).toMatchObject({ warnings: [], told: [] })

    // This model knows nothing by itself but can be taught.
    runner.scoreLabels = (angles, example) => {
      const gain = angles[0] ?? 0
      return normalised([example.label === 0 ? gain : 0, example.label === 1 ? gain : 0])
    }
    const taught = await finish((await start({}, lines(20), 'taught')).id)
    expect(taught.status).toBe('succeeded')
    const learnt = await warningsOf(taught)
    expect(learnt.knowledge.p_value).toBe(1)
    expect(learnt).toMatchObject({ warnings: [], told: [] })
  })

  it('publishes a promising version that is not live, and names it to requests for the task', async ({
    expect,
  }) => {
    runner.scoreLabels = helpsMost
    const job = await finish((await start({})).id)
    expect(job).toMatchObject({
      status: 'succeeded',
      error: null,
      fine_tuned_model: `${MODEL}:news@1`,
      arcana: {
        version: 1,
        report: { guard: { outcome: 'promising', would_publish: null, forced: false } },
      },
    })
    const { summary, more_examples: more, p_value: pValue } = guardOf(job)
    expect(pValue).toBeGreaterThan(0.05)
    expect(more).toBeGreaterThan(0)
    expect(summary).toMatch(
      /^The adapter may help, but this is not shown yet: it answers 1\d of 20/,
    )
    expect(summary).toContain(`About ${more} more examples would settle it.`)

    const unknown = await client.chat({}, { 'x-task': 'news' })
    expect(unknown.status).toBe(404)
    const { error } = await unknown.json<{ error: { code: string; message: string } }>()
    expect(error.code).toBe('model_not_found')
    expect(error.message).toContain('"news@1" is its newest candidate')
    expect((await client.chat({ model: job.fine_tuned_model! })).status).toBe(200)

    // Nothing was withheld, so there is nothing to force; promotion is one call.
    const forced = await client.call('POST', `/v1/fine_tuning/jobs/${job.id}/publish`, {
      force: true,
    })
    expect(forced.status).toBe(400)
    const refused = await forced.json<{ error: { message: string } }>()
    expect(refused.error.message).toContain('POST /v1/tasks/news/promote')
    const promoted = await client.call('POST', '/v1/tasks/news/promote', {
      version: 1,
      expected_live: null,
    })
    expect(promoted.status).toBe(200)
    expect((await client.chat({}, { 'x-task': 'news' })).status).toBe(200)
  })

  it('keeps a live version live if a new one is only promising', async ({ expect }) => {
    expect((await finish((await start({})).id)).fine_tuned_model).toBe(`${MODEL}:news`)
    runner.scoreLabels = helpsMost
    const second = await finish((await start({})).id)
    expect(second.fine_tuned_model).toBe(`${MODEL}:news@2`)
    const task = await client.call('GET', '/v1/tasks/news')
    expect(await task.json()).toMatchObject({ live_version: 1 })
  })

  it('makes a promising version live for a job that asks for it', async ({ expect }) => {
    runner.scoreLabels = helpsMost
    const job = await finish((await start({ publish: 'promising' })).id)
    expect(job.fine_tuned_model).toBe(`${MODEL}:news`)
    expect(guardOf(job)).toMatchObject({ outcome: 'promising', forced: false })
    expect((await client.chat({}, { 'x-task': 'news' })).status).toBe(200)
    const events = await client.call('GET', `/v1/fine_tuning/jobs/${job.id}/events?limit=1000`)
    const { data } = await events.json<{ data: { level: string; message: string }[] }>()
    const warned = data.filter(({ level }) => level === 'warn').map(({ message }) => message)
    expect(warned.join()).toContain('It goes live all the same, as the job asked.')
  })

  it('publishes a version to try from four lines, and says that they are too few', async ({
    expect,
  }) => {
    const few = await finish((await start({}, lines(4))).id)
    expect(few.fine_tuned_model).toBe(`${MODEL}:news@1`)
    expect(guardOf(few).outcome).toBe('promising')
    expect(guardOf(few).summary).toContain('answers 4 of 4 examples right')
  })

  it('publishes the adapter at once for a job with force, and says so', async ({ expect }) => {
    runner.scoreLabels = helpsMost
    const job = await finish((await start({ force: true })).id)
    expect(job.fine_tuned_model).toBe(`${MODEL}:news`)
    expect(guardOf(job)).toMatchObject({
      outcome: 'promising',
      answer: 'adapter',
      forced: true,
    })
  })

  it('only reports, and warns, for a job that does not enforce it', async ({ expect }) => {
    runner.scoreLabels = helpsMost
    const job = await finish((await start({ guard: 'report' })).id)
    expect(job.status).toBe('succeeded')
    expect(guardOf(job)).toMatchObject({
      outcome: 'promising',
      answer: 'adapter',
      would_publish: null,
      enforced: false,
      forced: false,
    })
    const { data } = await (
      await client.call('GET', `/v1/fine_tuning/jobs/${job.id}/events?limit=1000`)
    ).json<{ data: { level: string; message: string }[] }>()
    const warnings = data.filter(({ level }) => level === 'warn')
    expect(warnings.map(({ message }) => message).join()).toContain(
      'It goes live all the same, because the job’s guard is "report".',
    )
    // If a bias does as well, the adapter is published and the report names the bias.
    runner.scoreLabels = knowsButLeans
    const biased = await finish((await start({ guard: 'report' }, lines(20), 'biased')).id)
    expect(guardOf(biased)).toMatchObject({ outcome: 'bias_only', would_publish: 'bias_only' })
    expect(guardOf(biased).answer).toBe(
      biased.arcana.report!.adapter_digest ? 'adapter' : 'bias_only',
    )
    // No mode publishes an adapter that does not gain on its own examples.
    runner.scoreLabels = knowsNothing
    const none = await finish((await start({ guard: 'report' }, lines(20), 'none')).id)
    expect(none.fine_tuned_model === null).toBe(guardOf(none).answer !== 'adapter')
  })

  it('judges each fold by a search without its examples', async ({ expect }) => {
    const bo = { optimizer: 'bo', n_trials: 20 }
    const calm = await finish((await start({ hyperparameters: bo, force: true })).id)
    const { guard_trials_done: done, guard_trials_total: total } = calm.arcana.progress
    expect([done, total]).toEqual([80, 80])
    // The search along the gradients: one an example, asked for once, and none by the folds.
    expect(runner.callsTo('POST /v1/gradient')).toBe(20)
  })

  describe('where its folds leave a doubt', () => {
    const doubtful = (suffix: string, rotation: object = {}) =>
      start({ hyperparameters: GRADIENT, ...rotation }, lines(20), suffix)
    const messagesOf = async (id: string): Promise<string[]> => {
      const events = await client.call('GET', `/v1/fine_tuning/jobs/${id}/events?limit=1000`)
      const { data } = await events.json<{ data: { message: string }[] }>()
      return data.map(({ message }) => message).reverse()
    }

    it('divides the examples twice more, and says so', async ({ expect }) => {
      runner.scoreLabels = helpsMost
      const numCandidates: number[] = []
      runner.intercept = async (request) => {
        if (!request.url.endsWith('/v1/gradient')) return null
        const split = decodeBinaryBody(new Uint8Array(await request.clone().arrayBuffer()))!
        numCandidates.push(gradientHeaderSchema.parse(JSON.parse(split.headerJson)).num_candidates)
        return null
      }
      const job = await finish((await doubtful('news')).id)
      const guard = guardOf(job)
      expect(guard).toMatchObject({
        partitions: 3,
        folds: 5,
        test: 'permutation of the right labels, by the mean of several partitions’ out-of-fold log odds',
      })
      expect(guard.summary).toContain('by 3 divisions of the examples into folds')
      const told = await messagesOf(job.id)
      const doubt = told.findIndex((message) => message.startsWith('The folds leave a doubt (p = '))
      expect(doubt).toBeGreaterThan(
        told.findIndex((message) => message.includes('steps. Measuring')),
      )
      // The base model's losses, a step from it, then the fit's steps: in five folds, in five others with
      // the default number of steps, and in ten.
      const fit = (numSteps: number, numFolds: number) => [
        1,
        ...new Array<number>(1 + numSteps).fill(numFolds),
      ]
      expect(numCandidates).toEqual([...fit(12, 5), ...fit(32, 5), ...fit(32, 10)])
    })

    it('leaves it at one division for what is forced, clear, or found by another search', async ({
      expect,
    }) => {
      runner.scoreLabels = helpsMost
      const forced = guardOf(await finish((await doubtful('forced', { force: true })).id))
      expect(forced).toMatchObject({ partitions: 1, p_value: expect.any(Number) as number })
      expect(forced.p_value).toBeGreaterThan(0.01)
      expect(guardOf(await finish((await start({}, lines(20), 'random')).id)).partitions).toBe(1)
      runner.scoreLabels = new RunnerDouble().scoreLabels
      const clear = guardOf(await finish((await doubtful('clear')).id))
      expect(clear).toMatchObject({ partitions: 1, outcome: 'proven' })
      expect(clear.p_value).toBeLessThanOrEqual(0.01)
    })

    it('repeats at most one call of a division if its object is lost', async ({ expect }) => {
      runner.scoreLabels = helpsMost
      const digestOf = ({ arcana }: Job) => [arcana.report!.adapter_digest, arcana.report!.guard]
      const calm = await finish((await doubtful('calm')).id)
      const numCalm = runner.callsTo('POST /v1/gradient')
      runner.intercept = async () => {
        await new Promise((done) => setTimeout(done, 5))
        return null
      }
      const { id } = await doubtful('killed')
      // Amid the second further division: 14 and 34 calls are the fits before it.
      await vi.waitFor(
        () => {
          const made = runner.callsTo('POST /v1/gradient') - numCalm
          if (made < 60) throw new Error(`${made} calls`)
        },
        { timeout: 20_000, interval: 2 },
      )
      await abortAllDurableObjects()
      const killed = await finish(id)
      expect(digestOf(killed)).toEqual(digestOf(calm))
      const made = runner.callsTo('POST /v1/gradient') - numCalm
      expect(made).toBeGreaterThanOrEqual(numCalm)
      expect(made).toBeLessThanOrEqual(numCalm + 1)
    })
  })

  it('repeats and changes no fold’s trial if its object is lost', async ({ expect }) => {
    const digestOf = ({ arcana }: Job) => [arcana.report!.adapter_digest, arcana.report!.guard]
    const calm = await finish((await start({ force: true }, lines(20), 'calm')).id)
    let numScored = 0
    runner.intercept = async (request) => {
      if (!request.url.endsWith('/v1/score')) return null
      const split = decodeBinaryBody(new Uint8Array(await request.clone().arrayBuffer()))!
      numScored += scoreHeaderSchema.parse(JSON.parse(split.headerJson)).num_candidates
      await new Promise((done) => setTimeout(done, 30))
      return null
    }
    const { id } = await start({ force: true }, lines(20), 'killed')
    // By then the job's own 24 trials are scored, and some of the folds'.
    for (const seen of [44, 64, 84]) {
      await vi.waitFor(
        () => {
          if (numScored < seen) throw new Error(`${numScored} scored`)
        },
        { timeout: 10_000, interval: 5 },
      )
      await abortAllDurableObjects()
    }
    const killed = await finish(id)
    expect(digestOf(killed)).toEqual(digestOf(calm))
    expect(killed.arcana.progress.guard_trials_done).toBe(80)
  })
})

describe('warnings of a job', () => {
  it('name duplicates, conflicts and missing classes in its events and its report', async ({
    expect,
  }) => {
    const odd = [
      ...lines(10),
      { input: 'line 0', label: 'Sports' },
      { input: 'line 1', label: 'Sports' },
    ]
    const labels = ['Sports', 'World', 'Business']
    const job = await finish((await start({ labels, force: true }, odd)).id)
    expect(job.arcana.report!.warnings).toMatchObject([
      { code: 'duplicate_inputs', lines: [11, 12] },
      { code: 'conflicting_labels', lines: [12] },
      { code: 'missing_classes', lines: [] },
    ])
    const { data } = await (
      await client.call('GET', `/v1/fine_tuning/jobs/${job.id}/events?limit=1000`)
    ).json<{ data: { level: string; message: string }[] }>()
    const warned = data.filter(({ level }) => level === 'warn').map(({ message }) => message)
    expect(warned.some((message) => message.includes('line 11, 12'))).toBe(true)
    expect(warned.some((message) => message.includes('"Business"'))).toBe(true)
  })

  it('stop a job whose lines all have one input', async ({ expect }) => {
    const same = lines(6).map(({ label }) => ({ input: 'the same', label }))
    await expect(start({}, same)).rejects.toThrow('too_few_inputs')
  })
})
