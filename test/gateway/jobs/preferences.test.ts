import { abortAllDurableObjects } from 'cloudflare:test'
import { describe, it, vi } from 'vitest'
import type { PreferenceReport } from '../../../src/protocol/openai/text-report.ts'
import { decodeBinaryBody } from '../../../src/protocol/runner-scoring.ts'
import {
  accepted,
  finishJob,
  postExamples,
  postJob,
  runner,
  useFreshProject,
} from '../fresh-project.ts'

useFreshProject()

type Job = {
  id: string
  status: string
  error: { code: string } | null
  method: { rotation: { objective: string; labels: null; beta: number | null } }
  arcana: { report: PreferenceReport | null }
}

const NUM_PAIRS = 8
const LINES = Array.from({ length: NUM_PAIRS }, (_, i) => ({
  input: `line ${i}`,
  preferred: 'Yes, please.',
  rejected: 'No way.',
}))
const GRADIENT = { optimizer: 'gradient', n_steps: 6, learning_rate: 0.1 }

const METHOD = { guard: 'enforce', beta: 0.5, hyperparameters: GRADIENT }

const post = (
  rotation: Record<string, unknown>,
  examples: readonly object[] = LINES,
  suffix = 'polite',
): Promise<Response> => postJob({ ...METHOD, ...rotation }, examples, { suffix })
const start = (...args: Parameters<typeof post>) => accepted<Job>(post(...args))
const finish = (id: string) => finishJob<Job>(id)

/** A first angle above 0 makes what is preferred likelier, and what is rejected less likely. */
/** Each a candidate. */
const NUM_FOLDS = 5
const SLOPE = 3
function canBeTaught(): void {
  runner.scoreTarget = (angles, { target }) =>
    -10 + (target.startsWith('Yes') ? SLOPE : -SLOPE) * Math.tanh(angles[0] ?? 0)
  runner.slopes = (angles, weights) => {
    const slopes = new Float32Array(angles.length)
    const sum = weights.reduce((total, weight, text) => {
      return total + weight * (text % 2 === 0 ? SLOPE : -SLOPE)
    }, 0)
    slopes[0] = -sum / Math.cosh(angles[0]!) ** 2
    return slopes
  }
}

describe('a job on pairs', () => {
  it('learns the preference, and reports it', async ({ expect }) => {
    canBeTaught()
    const weights: Float32Array[] = []
    runner.intercept = async (request) => {
      if (!request.url.endsWith('/v1/gradient')) return null
      const { values } = decodeBinaryBody(new Uint8Array(await request.clone().arrayBuffer()))!
      // Of six candidates, a weight for each text.
      weights.push(values.slice(values.length - NUM_FOLDS * 2 * NUM_PAIRS))
      return null
    }
    const created = await start({})
    expect(created.method.rotation).toMatchObject({
      objective: 'preference',
      labels: null,
      beta: 0.5,
    })
    const job = await finish(created.id)
    expect(job.error).toBeNull()
    const report = job.arcana.report!
    expect(report).toMatchObject({
      objective: 'preference',
      beta: 0.5,
      guard: {
        outcome: 'proven',
        test: 'paired one-sided sign-flip of out-of-fold preference',
        p_value: 2 ** -NUM_PAIRS,
        folds: NUM_FOLDS,
        out_of_fold: {
          base: { num_pairs: NUM_PAIRS, preferred_share: 0, mean_gap: 0 },
          adapter: { num_pairs: NUM_PAIRS, preferred_share: 1 },
        },
      },
    })
    const { base, adapter } = report.guard.out_of_fold
    expect(base.log_loss).toBeCloseTo(Math.LN2, 12)
    expect(adapter.log_loss).toBeCloseTo(Math.log1p(Math.exp(-0.5 * adapter.mean_gap)), 6)
    expect(report.guard.gain).toBeCloseTo(base.log_loss - adapter.log_loss, 6)

    // Of the identity only log probabilities; each step asks for them before it weighs, and so does
    // the look at what the last one came to.
    expect(weights).toHaveLength(1 + 2 * (6 + 1))
    const [identity, probe, first, , second] = weights
    const numTexts = 2 * NUM_PAIRS
    const rowsOf = (weights: Float32Array): number[][] =>
      Array.from({ length: weights.length / numTexts }, (_, candidate) =>
        Array.from(weights.subarray(candidate * numTexts, (candidate + 1) * numTexts)),
      )
    const size = (row: readonly number[]) => row.reduce((sum, weight) => sum + Math.abs(weight), 0)
    expect([...identity!, ...probe!].every((weight) => weight === 0)).toBe(true)
    // At the identity a candidate's pairs count alike, and its texts together beta · σ(0) · 2.
    for (const row of rowsOf(first!)) {
      expect(size(row)).toBeCloseTo(0.5, 6)
      const counts = new Set(row.filter((weight) => weight !== 0).map(Math.abs))
      expect(counts.size).toBe(1)
    }
    // Pairs whose preferred text is likelier already weigh less than at the identity.
    for (const row of rowsOf(second!)) {
      expect(size(row)).toBeGreaterThan(0)
      expect(size(row)).toBeLessThan(0.5)
      for (let pair = 0; pair < NUM_PAIRS; pair++) expect(row[2 * pair]).toBe(-row[2 * pair + 1]!)
    }
    // A fold's candidate has no weight on either text of the fold's own pairs.
    const ofFold = first!.slice(0, 2 * NUM_PAIRS)
    expect(ofFold.some((weight) => weight === 0)).toBe(true)
    for (let pair = 0; pair < NUM_PAIRS; pair++) {
      expect(ofFold[2 * pair]! + ofFold[2 * pair + 1]!).toBe(0)
    }
  })

  it('gives the same version when its object dies during the search', async ({ expect }) => {
    canBeTaught()
    const digestOf = async (isDisturbed: boolean, suffix: string) => {
      const job = await start({}, LINES, suffix)
      if (isDisturbed) {
        await vi.waitFor(() => {
          if (runner.callsTo('POST /v1/gradient') < 18) throw new Error('not yet')
        })
        await abortAllDurableObjects()
      }
      return (await finish(job.id)).arcana.report!.adapter_digest
    }
    const alone = await digestOf(false, 'one')
    expect(await digestOf(true, 'two')).toBe(alone)
  })

  it('is refused by field or line if it is invalid', async ({ expect }) => {
    const paramOf = async (...args: Parameters<typeof post>) => {
      const response = await post(...args)
      const { error } = await response.json<{ error: { param: string } }>()
      return [response.status, error.param]
    }
    const labels = ['x', 'y', 'x', 'y'].map((label, i) => ({ input: `line ${i}`, label }))
    expect(await paramOf({ hyperparameters: { optimizer: 'bo', n_trials: 8 } })).toEqual([
      400,
      'method.rotation.hyperparameters.optimizer',
    ])
    expect(await paramOf({}, labels)).toEqual([400, 'method.rotation.beta'])
    expect(await paramOf({ beta: null, objective: 'preference' }, labels)).toEqual([
      400,
      'training_file',
    ])
    expect(await paramOf({ objective: 'target' })).toEqual([400, 'training_file'])
    expect(await paramOf({ beta: 0 })).toEqual([400, 'method.rotation.beta'])
    const refused = await postExamples([
      LINES[0]!,
      { input: 'x', preferred: 'a', rejected: ' a ' },
      { input: 'x', preferred: 'a' },
      { input: 'x', preferred: 'a', rejected: ' ' },
      { input: 'x', target: 'a' },
    ])
    expect(refused.status).toBe(400)
    const { error } = await refused.json<{ error: { message: string } }>()
    expect(error.message).toContain('4 bad lines: line 2 preferred and rejected are the same')
    expect(error.message).toContain('line 5 has no pair, unlike line 1.')
  })
})
