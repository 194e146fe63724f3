import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import type { Gradients } from '../../../gpu-runner/scoring/gradients.ts'
import type { TokenisedDataset } from '../../../gpu-runner/scoring/dataset-store.ts'
import type { GradientHeader } from '../../../src/protocol/runner-scoring.ts'
import { generate, openTestRunner } from '../../fixtures/runner.ts'

/** Central differences of float32 losses: a step large enough to be seen above their rounding. */
const DIFFERENCE_STEP = 2e-2
const MAX_DIFFERENCE_ERROR = 0.02

/** Targets of different lengths, one longer than the rows of a run. */
const EXAMPLES = [
  ['What is the capital of France?', 'Paris.'],
  [
    'Say it politely: give me that.',
    'Could you please hand me that, if it is not too much trouble?',
  ],
  [
    'Tell me of the sea.',
    'The sea is wide and grey in the morning, and the boats that left before dawn come back slowly, ' +
      'one after another, low in the water, with gulls crying behind them all the way to the quay.',
  ],
] as const
const LAYERS = [0, 11, 29]
const NUM_CANDIDATES = 3
const HALF = NUM_CANDIDATES * LAYERS.length * 9 * 32
const WEIGHTS = Float32Array.of(0.1, 0.05, 0.02, 0, 0.2, -0.05, 0, 0, 0)

let runner: Runner
let dataset: TokenisedDataset
let values: Float32Array
let found: Gradients

const toBytes = (examples: readonly (readonly [string, string])[]) =>
  new TextEncoder().encode(
    JSON.stringify({
      examples: examples.map(([content, target]) => ({
        messages: [{ role: 'user', content }],
        target,
      })),
    }),
  )
const put = (bytes: Uint8Array): TokenisedDataset =>
  runner.datasets.put(createHash('sha256').update(bytes).digest('hex'), bytes)

beforeAll(async () => {
  runner = await openTestRunner({ decodeFormat: 'float32' })
  dataset = put(toBytes(EXAMPLES))
  const random = createRng(3)
  values = Float32Array.from({ length: 2 * HALF }, (_, i) =>
    i < HALF ? random() - 0.5 : 0.2 * (random() - 0.5),
  )
  found = await gradient()
})
afterAll(() => runner.release())

const header = (examples?: number[]): GradientHeader => ({
  dataset: dataset.digest,
  num_candidates: NUM_CANDIDATES,
  layers: LAYERS,
  has_log_scale: true,
  ...(examples === undefined ? {} : { examples }),
})
const gradient = (weights = WEIGHTS, isAborted = () => false) =>
  runner.gradients.gradient(dataset, header(), Float32Array.of(...values, ...weights), isAborted)
const score = async (candidates: Float32Array, examples?: number[]): Promise<number[][]> => {
  const scores = await runner.scorer.score(
    dataset,
    { ...header(examples), scope: 'generated' },
    candidates,
    () => false,
  )
  return scores.map((rows) =>
    rows.map((row) => {
      if (row.length !== 1) throw new Error(`${row.length} values of a target`)
      return row[0]!
    }),
  )
}

describe('targets of several tokens', () => {
  test('score like the tokens of a prompt', async ({ expect }) => {
    const { answers } = dataset
    if (answers.kind !== 'targets') throw new Error('no targets')
    // The base model: the target given as prompt, its log probabilities by the echo's own path.
    const zeros = new Float32Array(2 * HALF)
    const [base] = await score(zeros)
    for (const [example, target] of answers.targets.entries()) {
      const prompt = dataset.prompts[example]!
      const logprobs = await echoLogprobs([...prompt, ...target])
      const own = logprobs.slice(prompt.length)
      expect(own).toHaveLength(target.length)
      const sum = own.reduce((total, value) => total + value, 0)
      expect(base![example]).toBeCloseTo(sum, 2)
      expect(target.at(-1)).toBe(runner.context.tokenizer.endOfTurnId)
    }
  })

  test('score alone like beside longer ones', async ({ expect }) => {
    const together = await score(values)
    for (const example of EXAMPLES.keys()) {
      const alone = await score(values, [example])
      for (const candidate of alone.keys()) {
        expect(alone[candidate]![0]).toBeCloseTo(together[candidate]![example]!, 3)
      }
    }
  })

  test('have the log probabilities and losses that scoring in float32 gives', async ({
    expect,
  }) => {
    const scores = await score(values)
    for (const [candidate, row] of scores.entries()) {
      const own = WEIGHTS.subarray(candidate * row.length, (candidate + 1) * row.length)
      for (const [example, logProb] of row.entries()) {
        expect(found.logProbs[candidate * row.length + example]).toBeCloseTo(logProb, 2)
      }
      const loss = row.reduce((sum, value, i) => sum - own[i]! * value, 0)
      expect(found.loss[candidate]).toBeCloseTo(loss, 3)
    }
  })

  test('have gradients that finite differences of scores agree with', async ({ expect }) => {
    expect(found.gradient.slice(2 * (HALF / 3), HALF).every((slope) => slope === 0)).toBe(true)
    const perCandidate = HALF / NUM_CANDIDATES
    for (let candidate = 0; candidate < 2; candidate++) {
      // Along the gradient itself, angles and log scales together.
      const isOwn = (i: number): boolean => Math.floor((i % HALF) / perCandidate) === candidate
      const own = found.gradient.map((slope, i) => (isOwn(i) ? slope : 0))
      const length = Math.hypot(...own)
      const at = async (step: number): Promise<number> => {
        const moved = values.map((value, i) => value + (step * own[i]!) / length)
        const row = (await score(moved))[candidate]!
        const weights = WEIGHTS.subarray(candidate * row.length)
        return row.reduce((sum, value, i) => sum - weights[i]! * value, 0)
      }
      const slope =
        ((await at(DIFFERENCE_STEP)) - (await at(-DIFFERENCE_STEP))) / (2 * DIFFERENCE_STEP)
      expect(Math.abs(slope - length) / length).toBeLessThan(MAX_DIFFERENCE_ERROR)
    }
  })

  test('give the same again, and end when the caller leaves', async ({ expect }) => {
    expect(await gradient()).toEqual(found)
    await expect(gradient(WEIGHTS, () => true)).rejects.toMatchObject({ code: 'aborted' })
  })

  test('may be the drawn tokens, ended or cut', async ({ expect }) => {
    const messages = [{ role: 'user' as const, content: EXAMPLES[2][0] }]
    const max_tokens = 12
    const events = await generate(runner, {
      request_id: 'draw',
      messages,
      arms: [{ adapters: [], scope: 'generated', seed: 5 }],
      sampling: { max_tokens, temperature: 1, top_p: 1, stop: [], logprobs: 0 },
    })
    const drawn = events.flatMap((event) => (event.event === 'token' ? (event.logprobs ?? []) : []))
    expect(drawn).toHaveLength(max_tokens)
    const ids = drawn.map(({ id }) => id)
    const putTokens = (...targets: { ids: number[]; ended: boolean }[]) =>
      put(
        new TextEncoder().encode(
          JSON.stringify({ examples: targets.map((target) => ({ messages, target })) }),
        ),
      )
    const { endOfTurnId, vocabSize } = runner.context.tokenizer
    const targets = putTokens({ ids, ended: false }, { ids, ended: true }, { ids: [], ended: true })
    expect(targets.answers).toEqual({
      kind: 'targets',
      targets: [ids, [...ids, endOfTurnId], [endOfTurnId]],
    })
    const header = { dataset: targets.digest, num_candidates: 1, layers: [], has_log_scale: false }
    const scores = await runner.scorer.score(
      targets,
      { ...header, scope: 'generated' },
      new Float32Array(0),
      () => false,
    )
    const [cut, ended] = scores[0]!.map(([sum]) => sum!)
    const sum = drawn.reduce((total, { logprob }) => total + logprob, 0)
    expect(cut).toBeCloseTo(sum, 2)
    expect(ended).toBeLessThan(cut! - 1)

    expect(() => putTokens({ ids, ended: true }, { ids: [vocabSize], ended: true })).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        details: { param: 'examples.1.target.ids' },
      }),
    )
    expect(() => putTokens({ ids: [], ended: false })).toThrow(
      expect.objectContaining({ code: 'invalid_request' }),
    )
  })

  test('are refused by number if they are too long', ({ expect }) => {
    const long = 'word '.repeat(300).trim()
    expect(() => put(toBytes([...EXAMPLES, ['Go on.', long]]))).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        message: expect.stringMatching(/of 4 examples, 1 have .* 256 tokens: number 4$/) as string,
        details: { param: 'examples.3.target' },
      }),
    )
    // The target has its place in the context too.
    const prompt = 'word '.repeat(runner.context.maxContext - 60).trim()
    expect(put(toBytes([[prompt, 'Yes.']])).prompts[0]!.length).toBeGreaterThan(900)
    expect(() => put(toBytes([[prompt, 'word '.repeat(100).trim()]]))).toThrow(
      expect.objectContaining({ code: 'context_length_exceeded' }),
    )
  })
})

/** Log probability of each prompt token, the first being none's and given as 0. */
async function echoLogprobs(prompt: readonly number[]): Promise<number[]> {
  const events = await generate(runner, {
    request_id: 'echo',
    prompt: [...prompt],
    echo: true,
    arms: [{ adapters: [], scope: 'generated' }],
    sampling: { max_tokens: 0, temperature: 0, top_p: 1, stop: [], logprobs: 0 },
  })
  return events.flatMap((event) =>
    event.event === 'prompt' ? event.tokens.map(({ logprob }) => logprob ?? 0) : [],
  )
}
