import { ropeAngle, type ModelConfig } from '../model/gguf/index.ts'
import { pastKey, pastValue } from '../onnx/serving/decoder.ts'
import { rotationCos, rotationSin } from '../onnx/serving/rotation.ts'
import {
  PAST_MASK,
  ROPE_COS,
  ROPE_SIN,
  SELF_MASK,
  TOKEN_IDS,
  windowed,
} from '../onnx/backward/attention.ts'
import {
  CHOICE_IDS,
  CHOICE_MASK,
  GOLD_IDS,
  GOLD_LOG_PROB,
  GOLD_SEED,
  gradientOf,
} from '../onnx/backward/training-graph.ts'
import type { KvTensors } from '../kv-cache/kv-tensors.ts'
import type { Binding, Session } from '../ort/index.ts'

/**
 * Added to an attention score or logit that must not count: far below any other, yet finite in
 * float32.
 */
const MASKED = -1e30

/** One rotated position: the token it reads and the one that should follow. */
export type TrainingPosition = {
  readonly token: number
  readonly gold: number
  /** Tokens over which P(gold) is normalised, `gold` among them; null is the whole vocabulary. */
  readonly choices: readonly number[] | null
}

/** An example from its last prompt token on. */
export type TrainingExample = {
  /** Tokens of the prompt; all but the last are in the KV row. */
  readonly promptLen: number
  /** For each candidate, positions of the KV row that it does not attend to; none by default. */
  readonly dropped?: readonly (readonly number[])[]
  /** At least one; the first reads the prompt's last token. */
  readonly positions: readonly TrainingPosition[]
}

/** Tables r·cos θ and r·sin θ of all candidates by layer, each [candidates, pairs]. */
export type RotationTables = {
  readonly numCandidates: number
  readonly cos: readonly Float32Array[]
  readonly sin: readonly Float32Array[]
}

export type StepResult = {
  /** Sum over an example's positions of log P(gold), [candidates][examples]. */
  readonly logProbs: readonly (readonly number[])[]
}

/**
 * Runs the training graph on some examples, and adds the gradient of −Σ weight·log P(gold) by the
 * tables to `gradient`.
 * @param kv holds the prompts: rows [firstRow, firstRow + examples.length) belong to the examples
 * @param weights [candidates][examples]
 * @param gradient tables of zeros or of earlier steps; changed in place
 */
export async function runTrainingStep(
  session: Session,
  config: ModelConfig,
  kv: KvTensors,
  firstRow: number,
  examples: readonly TrainingExample[],
  tables: RotationTables,
  weights: readonly (readonly number[])[],
  gradient: RotationTables,
): Promise<StepResult> {
  const { numHeads, numKvHeads, headDim, numLayers } = config
  const { numCandidates } = tables
  const numExamples = examples.length
  const numPositions = Math.max(...examples.map(({ positions }) => positions.length))
  const binding = session.createBinding()
  try {
    bindPositions(binding, examples, numPositions)
    bindAttention(binding, config, examples, numCandidates, numPositions, kv.capacity)
    const seed = new Float32Array(numExamples * numCandidates * numPositions)
    const logProb = new Float32Array(seed.length)
    const at = (example: number, candidate: number, position: number): number =>
      (example * numCandidates + candidate) * numPositions + position
    for (const [example, { positions }] of examples.entries()) {
      for (let candidate = 0; candidate < numCandidates; candidate++) {
        for (const position of positions.keys()) {
          seed[at(example, candidate, position)] = -weights[candidate]![example]!
        }
      }
    }
    const dims = [numExamples, numCandidates, numPositions, 1]
    binding.bindInput(GOLD_SEED, { data: seed, dims })
    binding.bindOutput(GOLD_LOG_PROB, { data: logProb, dims })

    const views = kv.views(firstRow, numExamples)
    const kvDims = [numExamples, numKvHeads, kv.capacity, headDim]
    const tableDims = [numCandidates, 1, numHeads, headDim]
    const outputs: Record<'cos' | 'sin', Float32Array[]> = { cos: [], sin: [] }
    for (let layer = 0; layer < numLayers; layer++) {
      binding.bindInput(pastKey(layer), { data: views[2 * layer]!, dims: kvDims })
      binding.bindInput(pastValue(layer), { data: views[2 * layer + 1]!, dims: kvDims })
      for (const [part, nameOf] of [
        ['cos', rotationCos],
        ['sin', rotationSin],
      ] as const) {
        const doubled = doublePairs(tables[part][layer]!)
        const output = new Float32Array(doubled.length)
        outputs[part].push(output)
        binding.bindInput(nameOf(layer), { data: doubled, dims: tableDims })
        binding.bindOutput(gradientOf(nameOf(layer)), { data: output, dims: tableDims })
      }
    }
    await binding.run()
    for (const part of ['cos', 'sin'] as const) {
      for (const [layer, output] of outputs[part].entries()) {
        const sum = gradient[part][layer]!
        for (let i = 0; i < sum.length; i++) sum[i]! += output[2 * i]! + output[2 * i + 1]!
      }
    }
    return {
      logProbs: Array.from({ length: numCandidates }, (_, candidate) =>
        examples.map(({ positions }, example) =>
          positions.reduce(
            (sum, _, position) => sum + logProb[at(example, candidate, position)]!,
            0,
          ),
        ),
      ),
    }
  } finally {
    binding.release()
  }
}

/**
 * Binds the inputs that depend on the examples and not on the candidates. Positions past an example's
 * own read token 0. They have no weight, and no earlier position attends to them.
 */
function bindPositions(
  binding: Binding,
  examples: readonly TrainingExample[],
  numPositions: number,
): void {
  const numExamples = examples.length
  const numPlaces = numExamples * numPositions
  const tokenIds = new BigInt64Array(numPlaces)
  const goldIds = new BigInt64Array(numPlaces)
  for (const [example, { positions }] of examples.entries()) {
    for (let position = 0; position < numPositions; position++) {
      const place = example * numPositions + position
      tokenIds[place] = BigInt(positions[position]?.token ?? 0)
      goldIds[place] = BigInt(positions[position]?.gold ?? 0)
    }
  }
  const places = [numExamples, numPositions]
  binding.bindInput(TOKEN_IDS, { data: tokenIds, dims: places })
  binding.bindInput(GOLD_IDS, { data: goldIds, dims: places })
  const numChoices = examples
    .flatMap(({ positions }) => positions)
    .reduce((most, { choices }) => Math.max(most, choices?.length ?? 0), 0)
  if (numChoices === 0) return
  const choiceIds = new BigInt64Array(numPlaces * numChoices)
  const choiceMask = new Float32Array(choiceIds.length)
  for (const [example, { positions }] of examples.entries()) {
    for (let position = 0; position < numPositions; position++) {
      const choices = positions[position]?.choices ?? [0]
      const start = (example * numPositions + position) * numChoices
      for (const [i, choice] of choices.entries()) choiceIds[start + i] = BigInt(choice)
      choiceMask.fill(MASKED, start + choices.length, start + numChoices)
    }
  }
  binding.bindInput(CHOICE_IDS, { data: choiceIds, dims: [...places, numChoices] })
  binding.bindInput(CHOICE_MASK, { data: choiceMask, dims: [...places, 1, numChoices] })
}

/** Binds the positions' rotary angles and attention masks. */
function bindAttention(
  binding: Binding,
  config: ModelConfig,
  examples: readonly TrainingExample[],
  numCandidates: number,
  numPositions: number,
  capacity: number,
): void {
  const promptLens = examples.map(({ promptLen }) => promptLen)
  const numExamples = examples.length
  const { slidingWindow } = config
  bindRope(binding, config, promptLens, numPositions, false)
  const bindPastMask = (name: string, numRows: number, windowLen: number): void => {
    const mask = new Float32Array(numExamples * numCandidates * numRows * capacity)
    let start = 0
    for (const { promptLen, dropped } of examples) {
      for (let candidate = 0; candidate < numCandidates; candidate++) {
        for (let position = 0; position < numRows; position++, start += capacity) {
          const numUnseen = promptLen + position - windowLen
          if (numUnseen > 0) mask.fill(MASKED, start, start + Math.min(numUnseen, capacity))
          mask.fill(MASKED, start + promptLen - 1, start + capacity)
          for (const place of dropped?.[candidate] ?? []) mask[start + place] = MASKED
        }
      }
    }
    const dims = [numExamples, 1, numCandidates, numRows, 1, capacity]
    binding.bindInput(name, { data: mask, dims })
  }
  // Without a window, all positions attend to the same part of the prompt, so one row serves them all.
  bindPastMask(PAST_MASK, 1, Infinity)
  const selfDims = [numPositions, 1, numPositions]
  binding.bindInput(SELF_MASK, { data: selfMaskOf(numPositions, Infinity), dims: selfDims })
  if (slidingWindow === null) return

  const { windowLen } = slidingWindow
  bindRope(binding, config, promptLens, numPositions, true)
  bindPastMask(windowed(PAST_MASK), numPositions, windowLen)
  const windowedSelf = selfMaskOf(numPositions, windowLen)
  binding.bindInput(windowed(SELF_MASK), { data: windowedSelf, dims: selfDims })
}

/** Mask among the positions: each attends to the last `windowLen` positions, its own included. */
function selfMaskOf(numPositions: number, windowLen: number): Float32Array {
  const mask = new Float32Array(numPositions * numPositions)
  for (let position = 0; position < numPositions; position++) {
    const row = mask.subarray(position * numPositions, (position + 1) * numPositions)
    row.fill(MASKED, position + 1)
    row.fill(MASKED, 0, Math.max(0, position + 1 - windowLen))
  }
  return mask
}

/** Binds the rotary embedding's cosines and sines; each pair's stand at both of its values. */
function bindRope(
  binding: Binding,
  config: ModelConfig,
  promptLens: readonly number[],
  numPositions: number,
  isWindowed: boolean,
): void {
  const { headDim, family } = config
  const cos = new Float32Array(promptLens.length * numPositions * headDim)
  const sin = new Float32Array(cos.length)
  for (const [example, promptLen] of promptLens.entries()) {
    for (let position = 0; position < numPositions; position++) {
      const start = (example * numPositions + position) * headDim
      for (let i = 0; i < headDim; i++) {
        const pair = family.ropePairs === 'adjacent' ? Math.floor(i / 2) : i % (headDim / 2)
        const angle = ropeAngle(config, isWindowed, promptLen - 1 + position, pair)
        cos[start + i] = Math.cos(angle)
        sin[start + i] = Math.sin(angle)
      }
    }
  }
  const dims = [promptLens.length, 1, numPositions, 1, headDim]
  const name = isWindowed ? windowed : (input: string): string => input
  binding.bindInput(name(ROPE_COS), { data: cos, dims })
  binding.bindInput(name(ROPE_SIN), { data: sin, dims })
}

/** Repeats each value, once for each member of its pair. */
function doublePairs(values: Float32Array): Float32Array {
  const doubled = new Float32Array(2 * values.length)
  for (let i = 0; i < values.length; i++) {
    doubled[2 * i] = values[i]!
    doubled[2 * i + 1] = values[i]!
  }
  return doubled
}
