import { createHash } from 'node:crypto'
import path from 'node:path'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import { openTrainingGraph, type LossKind } from '../../../gpu-runner/onnx/backward/index.ts'
import { openBuild } from '../../../gpu-runner/onnx/serving/index.ts'
import { openBackend, type Session } from '../../../gpu-runner/ort/index.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { prefillChunks } from '../../../gpu-runner/scheduler/chunks.ts'
import {
  runTrainingStep,
  type RotationTables,
  type TrainingExample,
} from '../../../gpu-runner/scoring/training-step.ts'
import type { TokenisedDataset } from '../../../gpu-runner/scoring/dataset-store.ts'
import type { GradientHeader } from '../../../src/protocol/runner-scoring.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { modelPath, readReference, TEST_CACHE_DIR } from '../../fixtures/model.ts'
import { needs } from '../../fixtures/needs.ts'
import { MODEL_DIGEST, openTestRunner } from '../../fixtures/runner.ts'

/** Largest relative error of both gradients against the reference. */
const MAX_RELATIVE_ERROR = 1e-3
/** Central differences of float32 losses: a step large enough to be seen above their rounding. */
const DIFFERENCE_STEP = 2e-2
const MAX_DIFFERENCE_ERROR = 0.02
const SYSTEM =
  'You are a news classifier. Answer with the category only: World, Sports, Business or Science.'

type Expected = {
  readonly loss: number
  readonly layer_norms: number[]
  readonly layer29_head0: number[]
  readonly layer12_head4: number[]
}
type Reference = {
  readonly gradient: {
    readonly label_ids: number[]
    readonly examples: [string, number][]
    readonly at: { readonly zero: Expected; readonly theta: Expected }
  }
  readonly target_gradient: {
    readonly examples: [string, string][]
    readonly tokens: number[][]
    readonly at: { readonly zero: Expected; readonly theta: Expected }
  }
}
const reference = readReference() as unknown as Reference | null

let runner: Runner
beforeAll(async () => {
  runner = await openTestRunner({ decodeFormat: 'float32' })
})
afterAll(() => runner.release())

const chatIds = (user: string): readonly number[] =>
  runner.context.tokenizer.encode(
    `<|im_start|>system\n${SYSTEM}<|im_end|>\n<|im_start|>user\n${user}<|im_end|>\n<|im_start|>assistant\n`,
  )

async function openTraining(loss: LossKind): Promise<Session> {
  const build = await openBuild(
    await modelPath(),
    MODEL_DIGEST,
    path.join(TEST_CACHE_DIR, 'builds'),
    { format: 'float32', rotation: true, maxContext: runner.config.contextLength },
  )
  const { backend } = openBackend('c-api')
  const options = { numThreads: 2, allowSpinning: false }
  return backend.createSession(await openTrainingGraph(build, loss), options)
}

/** Candidate 0 is the identity, candidate 1 the reference's 0.3·sin(7·layer + 3·head + pair). */
function referenceTables(): RotationTables {
  const { numLayers, numHeads, headDim } = runner.config
  const [pairs, perHead] = [(numHeads * headDim) / 2, headDim / 2]
  const angle = (layer: number, i: number): number =>
    i < pairs
      ? 0
      : 0.3 * Math.sin(7 * layer + 3 * Math.floor((i - pairs) / perHead) + ((i - pairs) % perHead))
  const fill = (value: (angle: number) => number): Float32Array[] =>
    Array.from({ length: numLayers }, (_, layer) =>
      Float32Array.from({ length: 2 * pairs }, (__, i) => value(angle(layer, i))),
    )
  return { numCandidates: 2, cos: fill(Math.cos), sin: fill(Math.sin) }
}

/** Loss and gradient in the angles of both candidates, each example counting `weight`. */
async function differentiateReference(
  loss: LossKind,
  prompts: readonly (readonly number[])[],
  examples: readonly TrainingExample[],
  weight: number,
) {
  const { config, executor } = runner
  const kv = new KvTensors(config, prompts.length, Math.max(...prompts.map((p) => p.length)) + 3)
  for (const [row, prompt] of prompts.entries()) {
    for (const [start, end] of prefillChunks(prompt.length - 1)) {
      await executor.prefill(kv, row, prompt.slice(start, end), start, 0)
    }
  }
  const tables = referenceTables()
  const empty = (part: readonly Float32Array[]) =>
    part.map(({ length }) => new Float32Array(length))
  const sums = { numCandidates: 2, cos: empty(tables.cos), sin: empty(tables.sin) }
  const weights = [0, 1].map(() => prompts.map(() => weight))
  const session = await openTraining(loss)
  const { logProbs } = await runTrainingStep(
    session,
    config,
    kv,
    0,
    examples,
    tables,
    weights,
    sums,
  )
  session.release()
  const pairs = (config.numHeads * config.headDim) / 2
  return logProbs.map((row, candidate) => ({
    loss: -weight * row.reduce((sum, value) => sum + value, 0),
    angles: tables.cos.map((cos, layer) =>
      Array.from({ length: pairs }, (_, i) => {
        const at = candidate * pairs + i
        return cos[at]! * sums.sin[layer]![at]! - tables.sin[layer]![at]! * sums.cos[layer]![at]!
      }),
    ),
  }))
}

function relativeErrors(
  found: Awaited<ReturnType<typeof differentiateReference>>[number],
  expected: Expected,
): number[] {
  const distance = (values: readonly number[], wanted: readonly number[]): number =>
    Math.hypot(...values.map((value, i) => value - wanted[i]!)) / Math.hypot(...wanted)
  return [
    Math.abs(found.loss - expected.loss) / expected.loss,
    ...found.angles.map(
      (layer, i) =>
        Math.abs(Math.hypot(...layer) - expected.layer_norms[i]!) / expected.layer_norms[i]!,
    ),
    distance(found.angles[29]!.slice(0, 32), expected.layer29_head0),
    distance(found.angles[12]!.slice(4 * 32, 5 * 32), expected.layer12_head4),
  ]
}

describe('gradients of the reference', needs('../shared/reference', reference !== null), () => {
  test('of the label loss agree to 1e-3', async ({ expect }) => {
    const { label_ids, examples, at } = reference!.gradient
    const prompts = examples.map(([text]) => chatIds(text))
    const rows = prompts.map((prompt, i) => ({
      promptLen: prompt.length,
      positions: [{ token: prompt.at(-1)!, gold: label_ids[examples[i]![1]]!, choices: label_ids }],
    }))
    const [zero, theta] = await differentiateReference('choices', prompts, rows, 1 / prompts.length)
    for (const error of relativeErrors(zero!, at.zero))
      expect(error).toBeLessThan(MAX_RELATIVE_ERROR)
    for (const error of relativeErrors(theta!, at.theta)) {
      expect(error).toBeLessThan(MAX_RELATIVE_ERROR)
    }
  })

  test('of the target loss, over several rotated positions, agree to 1e-3', async ({ expect }) => {
    const { examples, tokens, at } = reference!.target_gradient
    const prompts = examples.map(([text]) => chatIds(text))
    const rows = prompts.map((prompt, i) => ({
      promptLen: prompt.length,
      positions: tokens[i]!.map((gold, j) => ({
        token: j === 0 ? prompt.at(-1)! : tokens[i]![j - 1]!,
        gold,
        choices: null,
      })),
    }))
    const numTokens = tokens.flat().length
    const [zero, theta] = await differentiateReference('vocabulary', prompts, rows, 1 / numTokens)
    for (const error of relativeErrors(zero!, at.zero))
      expect(error).toBeLessThan(MAX_RELATIVE_ERROR)
    for (const error of relativeErrors(theta!, at.theta)) {
      expect(error).toBeLessThan(MAX_RELATIVE_ERROR)
    }
  })
})

/** Labels of several tokens, of different lengths, one of them the start of another. */
const LABELS = ['card not working', 'card not working abroad', 'card lost', 'top up']
const GOLD = [1, 2, 3, 0]
const INPUTS = [
  'My card was refused in Spain although it works at home.',
  'I cannot find my card anywhere!',
  'How do I add money?',
  'The shop says that my card does nothing at all, and this is the third time this week.',
]

describe('gradients of labels of several tokens', () => {
  let dataset: TokenisedDataset
  const layers = [0, 11, 29]
  const numCandidates = 3
  let values: Float32Array
  const header = (): GradientHeader => ({
    dataset: dataset.digest,
    num_candidates: numCandidates,
    layers,
    has_log_scale: true,
  })
  const half = (): number => numCandidates * layers.length * 9 * 32
  /** Weights that differ by candidate and example, one of them 0. */
  const WEIGHTS = Float32Array.of(0.25, 0.25, 0.25, 0.25, 0, 1, 0.5, 0.25, 1, 0, 0, 0)

  beforeAll(() => {
    const bytes = new TextEncoder().encode(
      JSON.stringify({
        labels: LABELS,
        examples: GOLD.map((label, i) => ({
          messages: [{ role: 'user', content: INPUTS[i]! }],
          label,
        })),
      }),
    )
    dataset = runner.datasets.put(createHash('sha256').update(bytes).digest('hex'), bytes)
    const random = createRng(3)
    values = Float32Array.from({ length: 2 * half() }, (_, i) =>
      i < half() ? random() - 0.5 : 0.2 * (random() - 0.5),
    )
  })

  const gradient = (isAborted = () => false, weights = WEIGHTS) =>
    runner.gradients.gradient(dataset, header(), Float32Array.of(...values, ...weights), isAborted)
  const score = async (candidates: Float32Array) => {
    const scores = await runner.scorer.score(
      dataset,
      { ...header(), scope: 'generated' },
      candidates,
      () => false,
    )
    return scores.map((rows) => rows.map((row, example) => row[GOLD[example]!]!))
  }
  const lossOf = (logProbs: readonly number[], candidate: number): number =>
    logProbs.reduce((sum, value, i) => sum - WEIGHTS[candidate * INPUTS.length + i]! * value, 0)

  test('have the log probabilities and losses that scoring in float32 gives', async ({
    expect,
  }) => {
    const found = await gradient()
    const scores = await score(values)
    for (const [candidate, row] of scores.entries()) {
      for (const [example, logProb] of row.entries()) {
        expect(found.logProbs[candidate * row.length + example]).toBeCloseTo(logProb, 3)
      }
      expect(found.loss[candidate]).toBeCloseTo(lossOf(row, candidate), 3)
    }
  })

  test('agree with finite differences of scores, in angles and log scales', async ({ expect }) => {
    const found = await gradient()
    // Along a random direction of all layers, and along the gradient of each half itself.
    const random = createRng(17)
    const directions = [
      Float32Array.from({ length: values.length }, () => random() - 0.5),
      found.gradient.map((slope, i) => (i < half() ? slope : 0)),
      found.gradient.map((slope, i) => (i < half() ? 0 : slope)),
    ]
    for (const direction of directions) {
      const perCandidate = direction.length / 2 / numCandidates
      for (let candidate = 0; candidate < numCandidates; candidate++) {
        const isOwn = (i: number): boolean => Math.floor((i % half()) / perCandidate) === candidate
        const own = direction.map((value, i) => (isOwn(i) ? value : 0))
        const length = Math.hypot(...own)
        const at = async (step: number): Promise<number> => {
          const moved = values.map((value, i) => value + (step * own[i]!) / length)
          return lossOf((await score(moved))[candidate]!, candidate)
        }
        const slope =
          ((await at(DIFFERENCE_STEP)) - (await at(-DIFFERENCE_STEP))) / (2 * DIFFERENCE_STEP)
        const analytic = found.gradient.reduce(
          (sum, value, i) => sum + (value * own[i]!) / length,
          0,
        )
        const scale = Math.hypot(...found.gradient.filter((_, i) => isOwn(i)))
        expect(Math.abs(slope - analytic) / scale).toBeLessThan(MAX_DIFFERENCE_ERROR)
      }
    }
  })

  test('are the same again, and of weights 0 are zero', async ({ expect }) => {
    const [first, again] = [await gradient(), await gradient()]
    expect(again).toEqual(first)
    const none = await gradient(() => false, new Float32Array(WEIGHTS.length))
    expect(none.gradient.every((value) => value === 0)).toBe(true)
    expect(none.logProbs).toEqual(first.logProbs)
  })

  test('are the same without the rows of weight 0, in any order of the examples', async ({
    expect,
  }) => {
    const whole = await gradient()
    const order = [2, 0, 3, 1]
    const weights = [0, 1, 2].flatMap((candidate) =>
      order.map((example) => WEIGHTS[candidate * order.length + example]!),
    )
    const part = await runner.gradients.gradient(
      dataset,
      { ...header(), examples: order, skip_unweighted: true },
      Float32Array.of(...values, ...weights),
      () => false,
    )
    for (const [i, weight] of weights.entries()) {
      const candidate = Math.floor(i / order.length)
      const logProb = whole.logProbs[candidate * order.length + order[i % order.length]!]!
      if (weight === 0) expect(part.logProbs[i]).toBeNaN()
      else expect(part.logProbs[i]).toBeCloseTo(logProb, 4)
    }
    for (const [candidate, loss] of whole.loss.entries()) {
      expect(part.loss[candidate]).toBeCloseTo(loss, 4)
    }
    const gap = Math.hypot(...part.gradient.map((value, i) => value - whole.gradient[i]!))
    expect(gap / Math.hypot(...whole.gradient)).toBeLessThan(1e-4)
  })

  test('end when the caller leaves', async ({ expect }) => {
    await expect(gradient(() => true)).rejects.toMatchObject({ code: 'aborted' })
  })
})
