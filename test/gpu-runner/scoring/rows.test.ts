import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, test, vi } from 'vitest'
import { buildLabelTrie } from '../../../adapters/objective/label-trie.ts'
import { pairsPerLayer } from '../../../adapters/rotation/rotation.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import type { TokenisedDataset } from '../../../gpu-runner/scoring/dataset-store.ts'
import type { GradientHeader } from '../../../src/protocol/runner-scoring.ts'
import { openTestRunner } from '../../fixtures/runner.ts'
import { TINY_MODELS, writeTinyModel } from '../../fixtures/tiny-model.ts'

/** Float32 sums in another order. */
const MAX_DIFFERENCE = 1e-5
const END_TOKEN = 2
/** Instructions that all prompts begin with, and one prompt that begins otherwise. */
const SHARED = [1, 70, 104, 110, 35]
const PROMPTS = [
  [...SHARED, 208, 99, 51, 77],
  [...SHARED, 208, 40, 41],
  [9, 70, 104, 110, 35, 208],
  [...SHARED, 61, 62, 63, 64, 65, 66],
]
const GOLD = [0, 1, 2, 1]
const NUM_CANDIDATES = 3
/** Weights [candidates, examples]; the last candidate has no use for two of them. */
const WEIGHTS = [0.25, 0.25, 0.25, 0.25, 0, 1, 0.5, 0.25, 1, 0, 0, 0.5]

let dir = ''
let runner: Runner
let dataset: TokenisedDataset
let values: Float32Array
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'arcana-rows-'))
  const model = TINY_MODELS.find(({ arch }) => arch === 'llama')!
  const ggufPath = path.join(dir, 'tiny.gguf')
  await writeTinyModel(model, ggufPath)
  runner = await openTestRunner({
    ggufPath,
    buildDir: dir,
    decodeFormat: 'float32',
    maxContext: 64,
  })
  const trie = buildLabelTrie([[80, 33], [80, 190, 7], [12]], END_TOKEN)
  if (!trie.ok) throw new Error(trie.error.reason)
  dataset = {
    digest: 'a'.repeat(64),
    prompts: PROMPTS,
    answers: { kind: 'labels', gold: GOLD, trie: trie.value },
    // The odd prompt shares nothing with the others.
    sharedEnds: { start: 0, end: 0 },
    maxFeedLen: trie.value.maxFeedDepth,
  }
  const random = createRng(3)
  const { config } = runner
  values = Float32Array.from(
    { length: NUM_CANDIDATES * config.numLayers * pairsPerLayer(config) },
    () => random() - 0.5,
  )
})
afterAll(async () => {
  await runner.release()
  await rm(dir, { recursive: true, force: true })
})

const layers = () => Array.from({ length: runner.config.numLayers }, (_, layer) => layer)

const differentiate = (weights: readonly number[], rest: Partial<GradientHeader> = {}) =>
  runner.gradients.gradient(
    dataset,
    {
      dataset: dataset.digest,
      num_candidates: NUM_CANDIDATES,
      layers: layers(),
      has_log_scale: false,
      ...rest,
    },
    Float32Array.of(...values, ...weights),
    () => false,
  )

/** Log probabilities of all labels, [candidates][examples][labels]. */
const score = (examples?: readonly number[]) =>
  runner.scorer.score(
    dataset,
    {
      dataset: dataset.digest,
      scope: 'generated',
      num_candidates: NUM_CANDIDATES,
      layers: layers(),
      has_log_scale: false,
      ...(examples === undefined ? {} : { examples: [...examples] }),
    },
    values,
    () => false,
  )

const largestGap = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0)

describe('rows of weight 0', () => {
  test('are omitted on request, and change nothing else, in any order', async ({ expect }) => {
    const whole = await differentiate(WEIGHTS)
    for (const order of [
      [0, 1, 2, 3],
      [2, 0, 3, 1],
    ]) {
      const weights = [0, 1, 2].flatMap((candidate) =>
        order.map((example) => WEIGHTS[candidate * order.length + example]!),
      )
      const part = await differentiate(weights, { examples: order, skip_unweighted: true })
      for (const [i, weight] of weights.entries()) {
        const at = Math.floor(i / order.length) * order.length + order[i % order.length]!
        if (weight === 0) expect(part.logProbs[i]).toBeNaN()
        else expect(Math.abs(part.logProbs[i]! - whole.logProbs[at]!)).toBeLessThan(MAX_DIFFERENCE)
      }
      expect(largestGap(part.loss, whole.loss)).toBeLessThan(MAX_DIFFERENCE)
      expect(largestGap(part.gradient, whole.gradient)).toBeLessThan(MAX_DIFFERENCE)
      expect(Math.max(...whole.gradient.map(Math.abs))).toBeGreaterThan(100 * MAX_DIFFERENCE)
    }
  })

  test('for all candidates omit the example', async ({ expect }) => {
    const none = await differentiate(new Array<number>(12).fill(0), { skip_unweighted: true })
    expect(none.logProbs.every(Number.isNaN)).toBe(true)
    expect(none.loss.every((loss) => loss === 0)).toBe(true)
    expect(none.gradient.every((slope) => slope === 0)).toBe(true)
  })
})

describe('examples that are not to be computed', () => {
  test('leave the others unchanged, and their prompts in one group', async ({ expect }) => {
    const some = WEIGHTS.map((weight, i) => (i % 4 === 1 || i % 4 === 2 ? weight : 0))
    const whole = await differentiate(some)
    const prefill = vi.spyOn(
      Object.getPrototypeOf(runner.executor) as typeof runner.executor,
      'prefill',
    )
    const part = await differentiate(some, { computed_examples: [2, 1] })
    expect(prefill).not.toHaveBeenCalled()
    prefill.mockRestore()
    for (const i of some.keys()) {
      if (i % 4 === 0 || i % 4 === 3) expect(part.logProbs[i]).toBeNaN()
      else expect(Math.abs(part.logProbs[i]! - whole.logProbs[i]!)).toBeLessThan(MAX_DIFFERENCE)
    }
    expect(largestGap(part.loss, whole.loss)).toBeLessThan(MAX_DIFFERENCE)
    expect(largestGap(part.gradient, whole.gradient)).toBeLessThan(MAX_DIFFERENCE)
  })

  test('may have no weight, and are of those asked for', ({ expect }) => {
    expect(() => differentiate(WEIGHTS, { computed_examples: [0] })).toThrow(/has a weight/)
    const none = new Array<number>(6).fill(0)
    const strange = { examples: [0, 1], computed_examples: [3] }
    expect(() => differentiate(none, strange)).toThrow(/which examples does not/)
  })
})

describe('prompts under dropout', () => {
  const drop = { prompt_dropout: { share: 0.5, seed: 7 } }

  test('give the gradient of their own losses', async ({ expect }) => {
    const whole = await differentiate(WEIGHTS)
    const { loss, logProbs, gradient } = await differentiate(WEIGHTS, drop)
    expect(largestGap(logProbs, whole.logProbs)).toBeGreaterThan(100 * MAX_DIFFERENCE)
    // Along the gradient itself: central differences of the losses under the same dropout.
    const size = gradient.length / NUM_CANDIDATES
    const own = values
    const lossAt = async (step: number): Promise<Float32Array> => {
      values = own.map((value, i) => value + step * gradient[i]!)
      const moved = await differentiate(WEIGHTS, drop)
      values = own
      return moved.loss
    }
    const step = 1e-2
    const [ahead, behind] = [await lossAt(step), await lossAt(-step)]
    for (let candidate = 0; candidate < NUM_CANDIDATES; candidate++) {
      const slope = gradient
        .subarray(candidate * size, (candidate + 1) * size)
        .reduce((sum, value) => sum + value ** 2, 0)
      const found = (ahead[candidate]! - behind[candidate]!) / (2 * step)
      expect(Math.abs(found - slope) / slope).toBeLessThan(0.02)
    }
    expect(loss).toEqual((await differentiate(WEIGHTS, drop)).loss)
  })

  test('drop the same tokens in any batch', async ({ expect }) => {
    const all = await differentiate(WEIGHTS, drop)
    const weights = [0, 1, 2].map((candidate) => WEIGHTS[candidate * 4 + 3]!)
    const alone = await differentiate(weights, { examples: [3], ...drop })
    for (let candidate = 0; candidate < NUM_CANDIDATES; candidate++) {
      const gap = alone.logProbs[candidate]! - all.logProbs[candidate * 4 + 3]!
      expect(Math.abs(gap)).toBeLessThan(MAX_DIFFERENCE)
    }
    const other = await differentiate(WEIGHTS, { prompt_dropout: { share: 0.5, seed: 8 } })
    expect(largestGap(other.logProbs, all.logProbs)).toBeGreaterThan(100 * MAX_DIFFERENCE)
  })

  test('drop other tokens for each candidate, and none at weight 0', async ({ expect }) => {
    const own = values
    const size = values.length / NUM_CANDIDATES
    // One rotation three times over.
    values = Float32Array.from(own, (_, i) => own[i % size]!)
    const whole = await differentiate(WEIGHTS)
    const { logProbs } = await differentiate(WEIGHTS, drop)
    values = own
    for (const [i, weight] of WEIGHTS.entries()) {
      const gap = Math.abs(logProbs[i]! - whole.logProbs[i]!)
      if (weight === 0) expect(gap).toBeLessThan(MAX_DIFFERENCE)
    }
    expect(Math.abs(logProbs[3]! - logProbs[7]!)).toBeGreaterThan(100 * MAX_DIFFERENCE)
    expect(Math.abs(whole.logProbs[3]! - whole.logProbs[7]!)).toBeLessThan(MAX_DIFFERENCE)
  })

  test('keep the tokens that all prompts share', async ({ expect }) => {
    const own = dataset
    dataset = { ...own, digest: 'b'.repeat(64), sharedEnds: { start: 3, end: 3 } }
    // Of the shortest, of six tokens, nothing is its own.
    const whole = await differentiate(WEIGHTS)
    const part = await differentiate(WEIGHTS, drop)
    dataset = own
    expect(part.logProbs[2]).toBe(whole.logProbs[2])
    expect(largestGap(part.logProbs, whole.logProbs)).toBeGreaterThan(100 * MAX_DIFFERENCE)
  })
})

describe('the common beginning of prompts', () => {
  test('is computed once per group, with the scores that each prompt has alone', async ({
    expect,
  }) => {
    const prefill = vi.spyOn(
      Object.getPrototypeOf(runner.executor) as typeof runner.executor,
      'prefill',
    )
    const together = await score([3, 2, 1, 0])
    const numComputed = prefill.mock.calls.reduce((sum, [, , ids]) => sum + ids.length, 0)
    prefill.mockRestore()
    // All but the last tokens: the first prompt and the odd one whole, the others from where they
    // part, of which the last shares one token more with its neighbour.
    expect(numComputed).toBe(10 + 5 + 2 + (8 - 6))
    for (const [place, example] of [3, 2, 1, 0].entries()) {
      const alone = await score([example])
      for (const [candidate, rows] of alone.entries()) {
        expect(largestGap(together[candidate]![place]!, rows[0]!)).toBeLessThan(MAX_DIFFERENCE)
      }
    }
  })
})
