import { abortAllDurableObjects } from 'cloudflare:test'
import { describe, it, vi } from 'vitest'
import type { TargetReport } from '../../../src/protocol/openai/text-report.ts'
import {
  accepted,
  client,
  finishJob,
  postJob,
  runner,
  uploadExamples,
  useFreshProject,
} from '../fresh-project.ts'
import { countTokens } from '../runner-double.ts'

useFreshProject()

type Job = {
  id: string
  status: string
  error: { code: string; message: string; param: string | null } | null
  fine_tuned_model: string | null
  method: { rotation: { objective: string; labels: string[] | null } }
  arcana: {
    version: number | null
    progress: { best_value: number; base_value: number }
    report: TargetReport | null
  }
}

const TARGETS = ['Yes, of course.', 'No.', 'It was a long day.', 'See you there then.']
const lines = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ input: `line ${i}`, target: TARGETS[i % 4]! }))
const GRADIENT = { optimizer: 'gradient', n_steps: 12, learning_rate: 0.1 }

const METHOD = { instructions: 'Answer.', guard: 'enforce', hyperparameters: GRADIENT }

const post = (
  rotation: Record<string, unknown>,
  examples: readonly object[] = lines(12),
  overrides: Record<string, unknown> = {},
): Promise<Response> =>
  postJob({ ...METHOD, ...rotation }, examples, { suffix: 'reply', ...overrides })
const start = (...args: Parameters<typeof post>) => accepted<Job>(post(...args))
const finish = (id: string) => finishJob<Job>(id)

describe('a job on targets', () => {
  it.for([
    ['gradient', GRADIENT],
    ['bo', { optimizer: 'bo', n_trials: 20 }],
    ['random', { optimizer: 'random', n_trials: 24 }],
  ] as const)(
    'learns by %s, publishes a version without labels, and reports perplexity',
    async ([optimizer, hyperparameters], { expect }) => {
      const validation_file = await uploadExamples(lines(5))
      const created = await start({ hyperparameters }, lines(12), { validation_file })
      expect(created.method.rotation).toMatchObject({ objective: 'target', labels: null })
      const job = await finish(created.id)
      expect(job.error).toBeNull()
      const report = job.arcana.report!
      const numTokens = lines(12).reduce((sum, { target }) => sum + countTokens(target), 0)
      expect(report).toMatchObject({
        objective: 'target',
        optimizer,
        guard: {
          outcome: 'proven',
          would_publish: 'adapter',
          enforced: true,
          forced: false,
          against: 'base',
          folds: 5,
          p_value: 2 ** -12,
          out_of_fold: { base: { num_examples: 12, num_tokens: numTokens } },
        },
        train: { base: { num_tokens: numTokens } },
        validation: { base: { num_examples: 5 } },
      })
      // The double gives every token a log probability of tanh(first angle) − 2.
      const { base, adapter } = report.guard.out_of_fold
      expect(base.log_loss).toBeCloseTo(2, 6)
      expect(base.perplexity).toBeCloseTo(Math.exp(2), 6)
      expect(adapter.log_loss).toBeLessThan(2)
      expect(report.guard.gain).toBeCloseTo(base.log_loss - adapter.log_loss, 6)
      expect(report.base_value).toBeCloseTo(-2, 6)
      expect(report.adapter_value).toBeGreaterThan(-2)
      expect(report.train.adapter.log_loss).toBeCloseTo(-report.adapter_value, 6)
      expect(job.arcana.progress.base_value).toBeCloseTo(-2, 5)

      const task = await (
        await client.call('GET', '/v1/tasks/reply')
      ).json<{ versions: Record<string, unknown>[] }>()
      expect(task.versions[0]).toMatchObject({
        labels: null,
        bias: null,
        temperature: null,
        report: { objective: 'target' },
      })
      // Served as free text in the task's frame, with its adapter.
      const answer = await client.chat({ model: job.fine_tuned_model! })
      expect(answer.status).toBe(200)
      const sent = runner.generateRequests.at(-1)!
      expect(sent.choice).toBeUndefined()
      expect(sent.messages?.[0]).toEqual({ role: 'system', content: 'Answer.' })
      expect(sent.arms[0]!.adapters).toEqual([{ digest: report.adapter_digest, weight: 1 }])
    },
  )

  it('is published but not live if the held-out gain is not shown', async ({ expect }) => {
    // An angle helps a line by its number, so a fold's angle says nothing of the others.
    runner.scoreTarget = (angles, { target, messages }) => {
      const number = Number(/\d+/.exec(messages.at(-1)!.content)![0])
      const gain = Math.tanh(angles[0] ?? 0) * (number % 2 === 0 ? 3 : -2)
      return countTokens(target) * (gain - 5)
    }
    const job = await finish((await start({})).id)
    expect(job.status).toBe('succeeded')
    expect(job.fine_tuned_model).toMatch(/@1$/)
    expect(job.arcana.report?.guard).toMatchObject({
      outcome: 'promising',
      would_publish: null,
      forced: false,
    })
    expect(job.arcana.report?.guard.summary).toMatch(/^The adapter may help, but this is not shown/)
  })

  it('publishes nothing if no rotation helps its own examples', async ({ expect }) => {
    runner.scoreTarget = (angles, { target }) =>
      countTokens(target) * (-2 - Math.abs(angles[0] ?? 0))
    const job = await finish((await start({ force: true })).id)
    expect(job).toMatchObject({ status: 'failed', error: { code: 'no_gain' } })
    const published = await client.call('POST', `/v1/fine_tuning/jobs/${job.id}/publish`, {
      force: true,
    })
    expect(published.status).toBe(400)
  })

  it('scores long targets in parts, each once', async ({ expect }) => {
    const long = 'word '.repeat(200).trim()
    const many = Array.from({ length: 40 }, (_, i) => ({ input: `line ${i}`, target: long }))
    const job = await finish((await start({}, many)).id)
    expect(job.arcana.report?.train.base).toMatchObject({ num_examples: 40, num_tokens: 40 * 201 })
    // 40 targets of 201 tokens, at most 4,096 tokens' rows a call: 20 rows. The identity has one row an
    // example; a step has five for each of its batch's 14, 13 or 13.
    const perStep = runner.callsTo('POST /v1/gradient') - 2
    expect(perStep).toBe(4 * 13)
  })

  it('gives the same version when its object dies during the search', async ({ expect }) => {
    const digestOf = async (isDisturbed: boolean, suffix: string) => {
      const job = await start({}, lines(12), { suffix })
      if (isDisturbed) {
        await vi.waitFor(() => {
          if (runner.callsTo('POST /v1/gradient') < 16) throw new Error('not yet')
        })
        await abortAllDurableObjects()
      }
      return (await finish(job.id)).arcana.report!.adapter_digest
    }
    const alone = await digestOf(false, 'one')
    expect(await digestOf(true, 'two')).toBe(alone)
  })

  it('is refused if labels and targets are mixed', async ({ expect }) => {
    const refused = async (...args: Parameters<typeof post>) => {
      const response = await post(...args)
      const { error } = await response.json<{ error: { param: string; message: string } }>()
      return [response.status, error.param, error.message] as const
    }
    const labels = [
      { input: 'a', label: 'x' },
      { input: 'b', label: 'y' },
    ]
    expect(await refused({ objective: 'label' })).toEqual([
      400,
      'training_file',
      expect.stringContaining('line 1, 2, 3'),
    ])
    expect((await refused({ objective: 'target' }, labels)).slice(0, 2)).toEqual([
      400,
      'training_file',
    ])
    expect((await refused({ objective: 'target', labels: ['x', 'y'] })).slice(0, 2)).toEqual([
      400,
      'method.rotation.labels',
    ])
    expect((await refused({ min_confidence: 0.5 })).slice(0, 2)).toEqual([
      400,
      'method.rotation.min_confidence',
    ])
    expect((await refused({ objective: 'text' })).slice(0, 2)).toEqual([
      400,
      'method.rotation.objective',
    ])
  })
})
