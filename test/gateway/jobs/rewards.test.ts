import { describe, it } from 'vitest'
import type { RewardReport } from '../../../src/protocol/openai/text-report.ts'
import type { GenerateRequest } from '../../../src/protocol/runner.ts'
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
import { publishTask } from '../harness.ts'
import { refuse } from '../runner-double.ts'

useFreshProject()

type Job = {
  id: string
  status: string
  error: { code: string; message: string; param: string | null } | null
  fine_tuned_model: string | null
  trained_tokens: number | null
  method: { rotation: Record<string, unknown> }
  arcana: { report: RewardReport | null }
}

const lines = (count: number) => Array.from({ length: count }, (_, i) => ({ input: `line ${i}` }))
const LIKES_GOOD = { type: 'string_check', reference: 'GOOD', operation: 'ilike' }
const RANDOM = { optimizer: 'random', n_trials: 16 }

const METHOD = {
  instructions: 'Go on.',
  guard: 'enforce',
  grader: LIKES_GOOD,
  generation: { max_tokens: 12, temperature: 0.5 },
  hyperparameters: RANDOM,
}

const post = (
  rotation: Record<string, unknown>,
  examples: readonly object[] = lines(8),
  suffix = 'cheer',
): Promise<Response> => postJob({ ...METHOD, ...rotation }, examples, { suffix })
const start = (...args: Parameters<typeof post>) => accepted<Job>(post(...args))
const finish = (id: string) => finishJob<Job>(id)

const saysGood = (): void => {
  runner.words = (arm) => (firstAngle(arm) > 0 ? ['A', ' good', ' day'] : ['A', ' bad', ' day'])
}
const lastText = ({ messages }: GenerateRequest) => messages!.at(-1)!.content
const generations = () => runner.generateRequests.filter(({ choice }) => choice === undefined)

describe('a job with a grader of texts', () => {
  it.for([
    ['random', RANDOM],
    ['bo', { optimizer: 'bo', n_trials: 16 }],
  ] as const)('learns by %s what the grader likes', async ([, hyperparameters], { expect }) => {
    saysGood()
    const created = await start({ hyperparameters })
    expect(created.method.rotation).toMatchObject({
      objective: 'reward',
      labels: null,
      grader: { ...LIKES_GOOD, input: '{{sample.output_text}}' },
      generation: { max_tokens: 12, temperature: 0.5 },
    })
    const job = await finish(created.id)
    expect(job.error).toBeNull()
    expect(job.trained_tokens).toBeNull()
    expect(job.arcana.report).toMatchObject({
      objective: 'reward',
      base_value: 0,
      adapter_value: 1,
      guard: {
        outcome: 'proven',
        test: 'paired one-sided sign-flip of out-of-fold score',
        gain: 1,
        p_value: 2 ** -8,
        folds: 5,
        out_of_fold: { base: { num_examples: 8, mean_score: 0 }, adapter: { mean_score: 1 } },
      },
      train: { base: { mean_score: 0 }, adapter: { mean_score: 1 } },
    })
    const { samples } = job.arcana.report!
    expect(samples).toHaveLength(5)
    expect(samples[0]).toEqual({
      input: 'line 0',
      base: { text: 'A bad day', score: 0 },
      adapter: { text: 'A good day', score: 1 },
    })

    // All candidates of a prompt are arms of one request, with the prompt's own seed.
    const [first] = generations()
    expect(first!.arms.length).toBeGreaterThan(1)
    expect(new Set(first!.arms.map(({ seed }) => seed)).size).toBe(1)
    expect(first!.arms[0]!.adapters).toEqual([])
    expect(first).toMatchObject({
      service_tier: 'flex',
      sampling: { max_tokens: 12, temperature: 0.5 },
    })
    expect(first!.messages![0]).toEqual({ role: 'system', content: 'Go on.' })
    const seedsOf = Map.groupBy(generations(), lastText)
    for (const requests of seedsOf.values()) {
      expect(new Set(requests.flatMap(({ arms }) => arms.map(({ seed }) => seed))).size).toBe(1)
    }
    expect(new Set([...seedsOf.values()].map(([request]) => request!.arms[0]!.seed)).size).toBe(8)

    const answer = await client.chat({ model: job.fine_tuned_model! })
    expect(answer.status).toBe(200)
    expect(runner.generateRequests.at(-1)!.choice).toBeUndefined()
  })

  it('compares with targets if the grader names them', async ({ expect }) => {
    saysGood()
    const grader = {
      type: 'text_similarity',
      reference: '{{item.target}} ({{item.input}})',
      input: '{{ sample.output_text }} ({{item.input}})',
      evaluation_metric: 'rouge_l',
    }
    const targets = lines(8).map((line) => ({ ...line, target: 'A good day' }))
    const job = await finish((await start({ grader }, targets)).id)
    // Of "a bad day line N" and "a good day line N" four words of five are common.
    expect(job.arcana.report).toMatchObject({ adapter_value: 1 })
    expect(job.arcana.report!.base_value).toBeCloseTo(0.8, 12)
    const refused = await post({ grader })
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({
      error: {
        param: 'training_file',
        message: expect.stringContaining('no answer in line 1, 2, 3') as string,
      },
    })
  })

  it('asks another task, at the version that was live when the job began', async ({ expect }) => {
    saysGood()
    runner.chosenLabel = (request) => (lastText(request).includes('good') ? 1 : 0)
    const labels = ['negative', 'positive']
    await publishTask(projectId, 'mood', { labels, instructions: null })
    const grader = { type: 'task', task: 'mood', label: 'positive' }
    const created = await start({ grader })
    expect(created.method.rotation).toMatchObject({ grader: { task: 'mood@1' } })
    const job = await finish(created.id)
    expect(job.arcana.report).toMatchObject({ base_value: 0, adapter_value: 1 })
    const asked = runner.generateRequests.filter(({ choice }) => choice !== undefined)
    expect(asked.length).toBeGreaterThan(0)
    expect(new Set(asked.map(lastText))).toEqual(new Set(['A good day', 'A bad day']))

    const missing = await post({ grader: { ...grader, task: 'nobody' } })
    expect(missing.status).toBe(404)
    const unknown = await post({ grader: { ...grader, label: 'neutral' } })
    expect(await unknown.json()).toMatchObject({
      error: { param: 'method.rotation.grader.label' },
    })
  })

  it('asks a webhook on an allowed host, and again if it fails', async ({ expect }) => {
    saysGood()
    const bodies: unknown[] = []
    runner.elsewhere = async (request) => {
      if (new URL(request.url).host !== 'grader.test') return null
      bodies.push(await request.json())
      if (bodies.length === 1) return new Response('later', { status: 503 })
      const { output } = bodies.at(-1) as { output: string }
      return Response.json({ score: output.includes('good') ? 2.5 : -1 })
    }
    const grader = { type: 'http', url: 'https://grader.test/score' }
    const job = await finish((await start({ grader })).id)
    expect(job.arcana.report).toMatchObject({ base_value: -1, adapter_value: 2.5 })
    expect(bodies[0]).toEqual({ input: 'line 0', output: 'A bad day', target: null })
  })

  it.for([
    ['an answer that is no score', () => Response.json({ score: 'high' }), 'no "score"'],
    ['a redirect', () => Response.redirect('https://runner.test/', 302), 'status 302'],
    ['an answer that is too long', () => new Response('x'.repeat(70_000)), 'over 65536 bytes'],
    ['an answer that is not JSON', () => new Response('good'), 'not JSON'],
  ] as const)('fails where the webhook gives %s', async ([, answer, reason], { expect }) => {
    let numCalls = 0
    runner.elsewhere = () => {
      numCalls += 1
      return answer()
    }
    const grader = { type: 'http', url: 'https://grader.test/score' }
    const job = await finish((await start({ grader }, lines(2))).id)
    expect(job).toMatchObject({ status: 'failed', error: { code: 'grader_failed' } })
    expect(job.error!.message).toContain('failed 3 times')
    expect(job.error!.message).toContain(reason)
    expect(numCalls).toBeLessThanOrEqual(6)
  })

  it('is refused if its grader is not allowed or is invalid', async ({ expect }) => {
    const refused = async (rotation: Record<string, unknown>) => {
      const response = await post(rotation)
      const { error } = await response.json<{ error: { param: string } }>()
      return [response.status, error.param] as const
    }
    const at = (field: string) => [400, `method.rotation.${field}`]
    const http = (url: string) => ({ grader: { type: 'http', url } })
    expect(await refused(http('https://elsewhere.test/'))).toEqual(at('grader.url'))
    expect(await refused(http('http://127.0.0.1:8788/'))).toEqual(at('grader.url'))
    expect(await refused(http('https://grader.test:81/'))).toEqual(at('grader.url'))
    expect(await refused(http('https://me:pass@grader.test/'))).toEqual(at('grader.url'))
    expect((await refused(http('ftp://grader.test/')))[0]).toBe(400)
    expect((await refused({ grader: { type: 'python', source: '' } }))[0]).toBe(400)
    const similar = { type: 'text_similarity', reference: 'x', evaluation_metric: 'cosine' }
    expect((await refused({ grader: similar }))[0]).toBe(400)
    expect((await refused({ grader: { ...LIKES_GOOD, reference: '{{item.foo}}' } }))[0]).toBe(400)
    expect(await refused({ labels: ['a', 'b'] })).toEqual(at('labels'))
    expect(await refused({ objective: 'label' })).toEqual(at('grader'))
    expect(await refused({ grader: null })).toEqual(at('generation'))
    expect(await refused({ hyperparameters: { optimizer: 'gradient' } })).toEqual(
      at('hyperparameters.optimizer'),
    )
    expect(await refused({ hyperparameters: { optimizer: 'bo', subspace: 'gradient' } })).toEqual(
      at('hyperparameters.subspace'),
    )
    // Lines without answers can only be graded.
    expect(await refused({ grader: undefined, generation: undefined })).toEqual([
      400,
      'training_file',
    ])
  })

  it('fails if a prompt is past the context, and names it', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate')
        ? refuse(400, 'context_length_exceeded', 'fatal', { param: 'messages' })
        : null
    const job = await finish((await start({})).id)
    expect(job).toMatchObject({
      status: 'failed',
      error: { code: 'context_length_exceeded', param: 'training_file' },
    })
  })

  it('waits while the runner is down, and repeats its round', async ({ expect }) => {
    saysGood()
    const alone = await finish((await start({}, lines(8), 'one')).id)
    let numRefused = 0
    runner.intercept = (request) => {
      if (!request.url.endsWith('/v1/generate') || numRefused >= 3) return null
      numRefused += 1
      return refuse(503, 'over_capacity', 'over_capacity', { retry_after_seconds: 1 })
    }
    const disturbed = await finish((await start({}, lines(8), 'two')).id)
    expect(numRefused).toBe(3)
    expect(disturbed.arcana.report!.adapter_digest).toBe(alone.arcana.report!.adapter_digest)
  })
})
