import { abortAllDurableObjects } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import type { JobEvent } from '../../../src/protocol/openai/fine-tuning.ts'
import type { RewardReport } from '../../../src/protocol/openai/text-report.ts'
import type { TargetDataset } from '../../../src/protocol/runner-scoring.ts'
import {
  accepted,
  client,
  finishJob,
  postJob,
  projectId,
  runner,
  useFreshProject,
} from '../fresh-project.ts'
import { firstAngle } from '../first-angle.ts'
import { holdCall } from '../hold-call.ts'

useFreshProject()

type Job = {
  id: string
  status: string
  error: { code: string; message: string } | null
  method: { rotation: Record<string, unknown> }
  arcana: {
    progress: { trials_done: number; trials_total: number; guard_trials_total: number }
    report: RewardReport | null
  }
}

const NUM_LINES = 8
const LINES = Array.from({ length: NUM_LINES }, (_, i) => ({ input: `line ${i}` }))
const LIKES_GOOD = { type: 'string_check', reference: 'GOOD', operation: 'ilike' }
const ROUNDS = { n_rounds: 3, n_samples: 6, n_steps: 2, learning_rate: 0.2 }

const METHOD = {
  instructions: 'Go on.',
  grader: LIKES_GOOD,
  generation: { max_tokens: 12 },
  hyperparameters: ROUNDS,
}

const post = (
  rotation: Record<string, unknown> = {},
  suffix = 'cheer',
  lines: readonly object[] = LINES,
): Promise<Response> => postJob({ ...METHOD, ...rotation }, lines, { suffix })
const start = (...args: Parameters<typeof post>) => accepted<Job>(post(...args))
const finish = (id: string) => finishJob<Job>(id)
const eventsOf = async ({ id }: Job): Promise<JobEvent[]> => {
  const response = await client.call('GET', `/v1/fine_tuning/jobs/${id}/events?limit=100`)
  return (await response.json<{ data: JobEvent[] }>()).data.reverse()
}

/**
 * A model that says a good or a bad thing by its seed, a good one with probability σ(4·angle − 1),
 * and the slopes of that. Which text is which is told by its place: of pairs the first is the good
 * one.
 */
function canBeTaught(isPairs: boolean): void {
  const chance = (angle: number) => 1 / (1 + Math.exp(1 - 4 * angle))
  runner.words = (arm) => {
    const drawn = (Math.imul(arm.seed!, 0x9e3779b1) >>> 0) / 2 ** 32
    return ['A', drawn < chance(firstAngle(arm)) ? ' good' : ' bad', ' day']
  }
  runner.scoreTarget = (angles, { target }) => {
    const p = chance(angles[0] ?? 0)
    return Math.log(target.includes('good') ? p : 1 - p)
  }
  runner.slopes = (angles, weights) => {
    const p = chance(angles[0]!)
    const slopes = new Float32Array(angles.length)
    for (const [text, weight] of weights.entries()) {
      slopes[0]! -= weight * (isPairs && text % 2 === 1 ? -4 * p : 4 * (1 - p))
    }
    return slopes
  }
}
const fitted = (): TargetDataset[] => [...runner.datasets.values()] as TargetDataset[]

describe('a job that fits a grader’s scores in rounds', () => {
  it.for([
    ['iterative-dpo', 'auto', { beta: 0.5 }],
    ['raft', 'raft', {}],
  ] as const)('learns by %s', async ([name, optimizer, rotation], { expect }) => {
    canBeTaught(name === 'iterative-dpo')
    const created = await start({ ...rotation, hyperparameters: { optimizer, ...ROUNDS } })
    expect(created.method.rotation).toMatchObject({
      objective: 'reward',
      beta: name === 'raft' ? null : 0.5,
      hyperparameters: { optimizer: name, ...ROUNDS },
      generation: { max_tokens: 12, temperature: 1 },
    })
    const job = await finish(created.id)
    expect(job.error).toBeNull()
    expect(job.arcana.progress).toMatchObject({
      trials_done: 4,
      trials_total: 4,
      guard_trials_total: 0,
    })
    const report = job.arcana.report!
    expect(report).toMatchObject({
      optimizer: name,
      num_draws: 3,
      rounds: { n_rounds: 3, n_samples: 6, n_steps: 2, learning_rate: 0.2, n_folds: 2 },
      guard: {
        outcome: 'proven',
        folds: 2,
        trials_per_fold: 4,
        test: 'paired one-sided sign-flip of out-of-fold score',
        out_of_fold: { base: { num_examples: NUM_LINES }, adapter: { num_examples: NUM_LINES } },
      },
    })
    const { base, adapter } = report.guard.out_of_fold
    expect(adapter.mean_score).toBeGreaterThan(base.mean_score + 0.3)
    expect(report.rounds!.scores).toHaveLength(4)
    expect(report.rounds!.scores.at(-1)!.drawn).toBeNull()
    expect(report.best_value).toBe(report.rounds!.scores[report.rounds!.chosen_round]!.held_out)

    // The fit uses exactly the tokens of the kept texts.
    expect(fitted().length).toBeGreaterThan(0)
    for (const { examples } of fitted()) {
      expect(examples.length).toBeGreaterThan(0)
      for (const [text, { messages, target }] of examples.entries()) {
        expect(target).toMatchObject({ ended: true })
        const isBest = name === 'raft' || text % 2 === 0
        expect(runner.textOf(target)).toBe(isBest ? 'A good day' : 'A bad day')
        expect(messages[0]).toEqual({ role: 'system', content: 'Go on.' })
      }
    }
    const events = await eventsOf(job)
    const metrics = events.filter(({ type }) => type === 'metrics')
    expect(metrics.map(({ data }) => data!['step'])).toEqual([1, 2, 3, 4])
    expect(metrics[0]!.data).toMatchObject({ held_out_score: report.rounds!.scores[0]!.held_out })
    expect(events.filter(({ message }) => message.startsWith('Round '))).toHaveLength(6)
    // Its examples and texts are deleted at its end.
    await vi.waitFor(async () => {
      const left = await env.BLOBS.list({ prefix: `${projectId}/jobs/${job.id}/` })
      if (left.objects.length > 0) throw new Error('not yet')
    })
  })

  it('generates the texts of a prompt with different seeds', async ({ expect }) => {
    canBeTaught(true)
    const job = await finish((await start()).id)
    expect(job.status).toBe('succeeded')
    const seedsOf = Map.groupBy(
      runner.generateRequests,
      ({ messages }) => messages!.at(-1)!.content,
    )
    for (const requests of seedsOf.values()) {
      const [first] = requests
      expect(new Set(first!.arms.map(({ seed }) => seed)).size).toBe(6)
      // Three rounds of six, half as many to end with, and those of the report.
      expect(new Set(requests.flatMap(({ arms }) => arms.map(({ seed }) => seed))).size).toBe(24)
    }
    expect(seedsOf.size).toBe(NUM_LINES)
  })

  it.for([
    ['while texts are drawn', '/v1/generate', 20],
    ['while the first texts are fitted', '/v1/gradient', 1],
    ['while later texts are fitted', '/v1/gradient', 4],
  ] as const)(
    'gives the same version when its object dies %s',
    async ([, path, at], { expect }) => {
      canBeTaught(true)
      const alone = await finish((await start({}, 'one')).id)
      const { reached, release } = holdCall(path, at)
      const job = await start({}, 'two')
      await reached()
      await abortAllDurableObjects()
      release()
      const disturbed = await finish(job.id)
      expect(disturbed.arcana.report!.adapter_digest).toBe(alone.arcana.report!.adapter_digest)
      expect(disturbed.arcana.report!.rounds).toEqual(alone.arcana.report!.rounds)
    },
  )

  it('ends soon after it is cancelled, and leaves no blobs', async ({ expect }) => {
    canBeTaught(true)
    const { reached, release } = holdCall('/v1/gradient', 2)
    const job = await start()
    await reached()
    const cancelled = await client.call('POST', `/v1/fine_tuning/jobs/${job.id}/cancel`)
    release()
    expect(await cancelled.json()).toMatchObject({ status: 'cancelled' })
    await vi.waitFor(async () => {
      const left = await env.BLOBS.list({ prefix: `${projectId}/jobs/${job.id}/` })
      if (left.objects.length > 0) throw new Error('not yet')
    })
    const numCalls = runner.calls.length
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(runner.calls).toHaveLength(numCalls)
  })

  it('says so where the grader scores all texts alike', async ({ expect }) => {
    canBeTaught(true)
    const grader = { ...LIKES_GOOD, reference: 'day' }
    const job = await finish((await start({ grader })).id)
    expect(job).toMatchObject({ status: 'failed', error: { code: 'no_gain' } })
    const events = await eventsOf(job)
    expect(events.some(({ message }) => message.includes('scores all texts alike'))).toBe(true)
    expect(runner.callsTo('POST /v1/gradient')).toBe(0)
  })

  it('uses bo for greedy texts, and refuses invalid fields by name', async ({ expect }) => {
    const greedy = await start({ hyperparameters: {}, generation: { temperature: 0 } })
    expect(greedy.method.rotation).toMatchObject({ hyperparameters: { optimizer: 'bo' } })
    await client.call('POST', `/v1/fine_tuning/jobs/${greedy.id}/cancel`)

    const paramOf = async (...args: Parameters<typeof post>) => {
      const response = await post(...args)
      const { error } = await response.json<{ error: { param: string } }>()
      return [response.status, error.param]
    }
    const at = (field: string) => [400, `method.rotation.${field}`]
    const by = (optimizer: string, more: object = {}) => ({
      hyperparameters: { optimizer, ...more },
    })
    const noGrader = { grader: undefined, generation: undefined }
    const targets = LINES.map((line) => ({ ...line, target: 'A good day' }))
    expect(await paramOf({ ...noGrader, ...by('raft') }, 'x', targets)).toEqual(
      at('hyperparameters.optimizer'),
    )
    expect(await paramOf({ ...by('raft'), generation: { temperature: 0 } })).toEqual(
      at('generation.temperature'),
    )
    expect(await paramOf({ ...by('iterative-dpo'), scope: 'all' })).toEqual(at('scope'))
    expect(await paramOf({ ...by('raft'), beta: 0.1 })).toEqual(at('beta'))
    expect(await paramOf(by('iterative-dpo', { n_trials: 10 }))).toEqual(
      at('hyperparameters.n_trials'),
    )
    expect(await paramOf(by('bo', { n_rounds: 2 }))).toEqual(at('hyperparameters.n_rounds'))
    expect(await paramOf(by('raft', { n_samples: 1 }))).toEqual(at('hyperparameters.n_samples'))
    expect(await paramOf(by('raft', { n_rounds: 0 }))).toEqual(at('hyperparameters.n_rounds'))
  })
})
