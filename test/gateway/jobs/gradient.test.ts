import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, it } from 'vitest'
import {
  decodeBinaryBody,
  gradientHeaderSchema,
  type GradientHeader,
} from '../../../src/protocol/runner-scoring.ts'
import { client, projectId, runner, uploadExamples, useFreshProject } from '../fresh-project.ts'
import { MODEL } from '../harness.ts'
import { holdCall } from '../hold-call.ts'
import { createJob, EXAMPLES, readEvents, upTo, waitFor, type Job } from '../label-jobs.ts'

useFreshProject()

describe('a job by gradient', () => {
  const GRADIENT = {
    type: 'rotation',
    rotation: {
      instructions: 'Say the category.',
      hyperparameters: { optimizer: 'gradient', n_steps: 12, learning_rate: 0.1 },
    },
  }

  /** Starts a job and waits until its sixth call is held. */
  async function heldInStep(suffix: string) {
    const held = holdCall('/v1/gradient', 6)
    const created = await createJob({ method: GRADIENT, suffix })
    await held.reached()
    return { created, ...held }
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
    // One call per step for all folds, one before them, and one for the result of the last step.
    expect(runner.callsTo('POST /v1/gradient')).toBe(1 + 12 + 1)
  })

  it('takes the same steps after its object is lost in the middle', async ({ expect }) => {
    const whole = await waitFor((await createJob({ method: GRADIENT, suffix: 'whole' })).id)
    const { created, countCalls, release } = await heldInStep('cut')
    await abortAllDurableObjects()
    release()
    const cut = await waitFor(created.id)
    expect(cut.status).toBe('succeeded')
    // Only the interrupted step is repeated.
    expect(countCalls()).toBe(15)
    const digestOf = (job: Job) =>
      (job.arcana.report as unknown as { adapter_digest: string }).adapter_digest
    expect(digestOf(cut)).toBe(digestOf(whole))
  })

  it('starts again, including the moments, if the build of the model changed', async ({
    expect,
  }) => {
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

  it('starts again if another release wrote the state of its search', async ({ expect }) => {
    const whole = await waitFor((await createJob({ method: GRADIENT, suffix: 'whole' })).id)
    const { created, release } = await heldInStep('outdated')
    const stub = env.JOBS.get(env.JOBS.idFromName(`${projectId}/${created.id}`))
    await runInDurableObject(stub, (_, { storage }) => {
      const [row] = storage.sql.exec<{ bytes: ArrayBuffer }>('SELECT bytes FROM search').toArray()
      const bytes = new Uint8Array(row!.bytes)
      // The version stands first.
      bytes[0] = bytes[0]! + 1
      storage.sql.exec('UPDATE search SET bytes = ? WHERE piece = 0', bytes.buffer)
    })
    await abortAllDurableObjects()
    release()
    const anew = await waitFor(created.id)
    expect(anew).toMatchObject({ status: 'succeeded', arcana: { progress: { trials_done: 13 } } })
    expect(anew.arcana.progress.best_value).toBe(whole.arcana.progress.best_value)
    const messages = (await readEvents(created.id)).map(({ message }) => message)
    expect(messages).toContain(
      "The service was upgraded, and its search works differently now. The job's trials start again.",
    )
  })

  it('publishes nothing if no step helps held-out examples', async ({ expect }) => {
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
    const job = await createJob({ training_file: await uploadExamples(many), method })
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
      training_file: await uploadExamples(EXAMPLES),
      suffix: 'news',
      method: { type: 'rotation', rotation: { hyperparameters, ...rest } },
    })
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { param: string } }>()
    expect(error.param).toContain(field)
  })
})
