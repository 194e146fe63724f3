import { abortAllDurableObjects } from 'cloudflare:test'
import { describe, it } from 'vitest'
import { decodeBinaryBody, gradientHeaderSchema } from '../../../src/protocol/runner-scoring.ts'
import { runner, useFreshProject } from '../fresh-project.ts'
import { holdCall } from '../hold-call.ts'
import { createJob, EXAMPLES, readEvents, upTo, waitFor, type Job } from '../label-jobs.ts'

useFreshProject()

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

  it('finds the same if its object is lost before or after it has directions', async ({
    expect,
  }) => {
    const whole = await waitFor((await createJob({ method: bo(), suffix: 'whole' })).id)
    for (const [path, lost] of [
      ['/v1/gradient', 2],
      ['/v1/score', 6],
    ] as const) {
      const { reached, release } = holdCall(path, lost)
      const suffix = `cut-${lost}`
      const created = await createJob({ method: bo(), suffix })
      await reached()
      await abortAllDurableObjects()
      release()
      const cut = await waitFor(created.id)
      expect(cut.status).toBe('succeeded')
      expect(digestOf(cut)).toBe(digestOf(whole))
    }
  })

  it('computes its directions again if the build of the model changed', async ({ expect }) => {
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
