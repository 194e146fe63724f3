import type { ModelConfig } from '../../model/gguf/index.ts'
import { float, int, ints, type Graph, type Initializer } from '../model.ts'
import { pastKey, pastValue } from '../build/decoder.ts'
import { rotationCos, rotationSin } from '../build/rotation.ts'
import { differentiate } from './differentiate.ts'
import { ShapedGraph, type Dims } from './shaped-graph.ts'

/**
 * What a position's loss is taken over: `choices`, a few tokens of its own (a label trie's branches),
 * or `vocabulary` (target text).
 */
export type LossKind = 'choices' | 'vocabulary'

/** Names of the graph's inputs and outputs, beside the KV's and the rotation's. */
export const TOKEN_IDS = 'token_ids'
export const ROPE_COS = 'rope_cos'
export const ROPE_SIN = 'rope_sin'
export const PAST_MASK = 'past_mask'
export const SELF_MASK = 'self_mask'
export const GOLD_IDS = 'gold_ids'
export const GOLD_SEED = 'gold_seed'
export const CHOICE_IDS = 'choice_ids'
export const CHOICE_MASK = 'choice_mask'
export const GOLD_LOG_PROB = 'gold_log_prob'
export const gradientOf = (input: string): string => `gradient.${input}`

const B = 'batch'
const C = 'candidates'
const P = 'positions'
const S = 'capacity'
const K = 'choices'
/** Dims along which rows of one matrix product lie. */
const ROWS = 'candidates·positions·group'

/**
 * Value and gradient of log P(gold token) in the rotation's tables, float32.
 *
 * C candidates times B examples times P rotated positions: the last prompt token and, where labels
 * or targets have several tokens, those after it. The prompt before is the base model's own and
 * frozen, so its keys and values are inputs, and every candidate reads the same ones: a layer's
 * scores of all candidates are one matrix product an example and head. Candidates stand inside the
 * batch, [B, C, P, …], for that reason.
 *
 * Inputs: `token_ids` [B, P] int64; `rope_cos`, `rope_sin` [B, 1, P, 1, headDim], each pair's value
 * twice; `past_mask` [B, 1, 1, 1, 1, S], 0 at the prompt's keys and hugely negative after them;
 * `self_mask` [P, 1, P], the same for positions among themselves; per layer `past_key`, `past_value`
 * [B, kvHeads, S, headDim] and the tables `rotation_cos`, `rotation_sin` [C, 1, heads, headDim],
 * each pair's value twice; `gold_ids` [B, P] int64; `gold_seed` [B, C, P, 1], what a unit of log
 * P(gold) counts for in the gradient; under `choices` also `choice_ids` [B, P, K] int64 and
 * `choice_mask` [B, P, 1, K].
 * Outputs: `gold_log_prob` [B, C, P, 1]; per layer the gradients of the tables, of their dims: a
 * pair's gradient is the sum of its two.
 * @param weights tensors of the float32 build's data file, beside which this graph must stand
 */
export function buildTrainingGraph(
  config: ModelConfig,
  weights: ReadonlyMap<string, Initializer>,
  loss: LossKind,
): Graph {
  const graph = new ShapedGraph()
  const { hidden, numHeads, numKvHeads, headDim, ffn, numLayers } = config
  const weight = (name: string): string => {
    const initializer = weights.get(name)
    if (!initializer) throw new Error(`the float32 build has no weight ${name}`)
    return graph.weight(initializer)
  }
  /** y = x·Wᵀ */
  const linear = (x: string, name: string, size: number): string =>
    graph.op('FusedMatMul', [x, weight(name)], [...graph.dimsOf(x).slice(0, -1), size], {
      transB: int(1),
      alpha: float(1),
    })
  const norm = (x: string, name: string): string => {
    const dims = graph.dimsOf(x)
    return graph.split(
      'SimplifiedLayerNormalization',
      [x, weight(name)],
      [dims, [...dims.slice(0, -1), 1]],
      { axis: int(-1), epsilon: float(config.rmsEps) },
    )[0]!
  }
  const add = (a: string, b: string): string => graph.op('Add', [a, b], graph.dimsOf(a))

  graph.input(TOKEN_IDS, 'int64', [B, P])
  graph.input(ROPE_COS, 'float32', [B, 1, P, 1, headDim])
  graph.input(ROPE_SIN, 'float32', [B, 1, P, 1, headDim])
  graph.input(PAST_MASK, 'float32', [B, 1, 1, 1, 1, S])
  graph.input(SELF_MASK, 'float32', [P, 1, P])
  graph.input(GOLD_IDS, 'int64', [B, P])
  graph.input(GOLD_SEED, 'float32', [B, C, P, 1])
  for (let layer = 0; layer < numLayers; layer++) {
    graph.input(pastKey(layer), 'float32', [B, numKvHeads, S, headDim])
    graph.input(pastValue(layer), 'float32', [B, numKvHeads, S, headDim])
    graph.input(rotationCos(layer), 'float32', [C, 1, numHeads, headDim])
    graph.input(rotationSin(layer), 'float32', [C, 1, numHeads, headDim])
  }
  const shapes = attentionShapes(graph, config)
  const turn = quarterTurn(graph, headDim)

  // [B, P, hidden], then one copy a candidate.
  const embedded = graph.op('Gather', [weight('embedding'), TOKEN_IDS], [B, P, hidden])
  const single = graph.op('Unsqueeze', [embedded, graph.int64([1])], [B, 1, P, hidden])
  let x = graph.op('Expand', [single, shapes.perCandidate], [B, C, P, hidden])
  for (let layer = 0; layer < numLayers; layer++) {
    const qkv = linear(
      norm(x, `blk.${layer}.attn_norm.weight`),
      `layer.${layer}.qkv.weight`,
      (numHeads + 2 * numKvHeads) * headDim,
    )
    const z = attention(graph, config, shapes, turn, layer, qkv)
    const rotated = multiplyPairs(graph, turn, z, rotationCos(layer), rotationSin(layer))
    const joined = graph.op(
      'Reshape',
      [rotated, graph.int64([0, 0, 0, numHeads * headDim])],
      [B, C, P, numHeads * headDim],
    )
    x = add(x, linear(joined, `layer.${layer}.attention_output.weight`, hidden))
    const gateUp = linear(
      norm(x, `blk.${layer}.ffn_norm.weight`),
      `layer.${layer}.gate_up.weight`,
      2 * ffn,
    )
    const half: Dims = [B, C, P, ffn]
    const [gate, up] = graph.split('Split', [gateUp, graph.int64([ffn, ffn])], [half, half], {
      axis: int(-1),
    })
    const silu = graph.op('QuickGelu', [gate!], half, { alpha: float(1) })
    const activated = graph.op('Mul', [silu, up!], half)
    x = add(x, linear(activated, `layer.${layer}.ffn_output.weight`, hidden))
  }
  const final = norm(x, 'output_norm.weight')
  const head = weight(weights.has('logits.weight') ? 'logits.weight' : 'embedding')
  const logProb = goldLogProb(graph, config, final, head, loss)

  const tables = Array.from({ length: numLayers }, (_, layer) => [
    rotationCos(layer),
    rotationSin(layer),
  ]).flat()
  const gradients = differentiate(graph, new Map([[logProb, GOLD_SEED]]), tables)
  graph.output(GOLD_LOG_PROB, logProb)
  for (const table of tables) graph.output(gradientOf(table), gradients.get(table)!)
  return graph.finish()
}

/** Shapes that hold sizes known only in a run, each made once, as values. */
type AttentionShapes = {
  /** [1, C, 1, 1] */
  readonly perCandidate: string
  /** [B, kvHeads, C, P, group, S], of scores on the prompt */
  readonly pastScores: string
  /** [B, kvHeads, C, P, group, P], of scores among the positions */
  readonly selfScores: string
  /** [B, kvHeads, −1, S] */
  readonly pastRows: string
  /** [B, kvHeads, C, −1, P] */
  readonly selfRows: string
  /** [B, kvHeads, C, P, group, headDim] */
  readonly heads: string
  /** [S, P] */
  readonly keySplit: string
}

function attentionShapes(graph: ShapedGraph, config: ModelConfig): AttentionShapes {
  const { numHeads, numKvHeads, headDim } = config
  const size = (value: string, axis: number): string =>
    graph.op('Shape', [value], [1], { start: int(axis), end: int(axis + 1) })
  const [b, p] = [size(TOKEN_IDS, 0), size(TOKEN_IDS, 1)]
  const [c, s] = [size(rotationCos(0), 0), size(pastKey(0), 2)]
  const join = (...parts: (string | number)[]): string =>
    graph.op(
      'Concat',
      parts.map((part) => (typeof part === 'number' ? graph.int64([part]) : part)),
      [parts.length],
      { axis: int(0) },
    )
  const group = numHeads / numKvHeads
  return {
    perCandidate: join(1, c, 1, 1),
    pastScores: join(b, numKvHeads, c, p, group, s),
    selfScores: join(b, numKvHeads, c, p, group, p),
    pastRows: join(b, numKvHeads, -1, s),
    selfRows: join(b, numKvHeads, c, -1, p),
    heads: join(b, numKvHeads, c, p, group, headDim),
    keySplit: join(s, p),
  }
}

/**
 * Attention of the rotated positions over the frozen prompt and one another.
 * @param qkv [B, C, P, (heads + 2·kvHeads)·headDim]
 * @returns z, [B, C, P, heads, headDim]
 */
function attention(
  graph: ShapedGraph,
  { numHeads, numKvHeads, headDim }: ModelConfig,
  shapes: AttentionShapes,
  turn: string,
  layer: number,
  qkv: string,
): string {
  const group = numHeads / numKvHeads
  const numRoped = numHeads + numKvHeads
  const scale = float(headDim ** -0.5)
  const [qk, vFlat] = graph.split(
    'Split',
    [qkv, graph.int64([numRoped * headDim, numKvHeads * headDim])],
    [
      [B, C, P, numRoped * headDim],
      [B, C, P, numKvHeads * headDim],
    ],
    { axis: int(-1) },
  )
  const perHead = graph.op(
    'Reshape',
    [qk!, graph.int64([0, 0, 0, numRoped, headDim])],
    [B, C, P, numRoped, headDim],
  )
  // GGUF stores llama's q and k rows so that rotary pairs are neighbours; cached keys are roped.
  const roped = multiplyPairs(graph, turn, perHead, ROPE_COS, ROPE_SIN)
  const [qHeads, kHeads] = graph.split(
    'Split',
    [roped, graph.int64([numHeads, numKvHeads])],
    [
      [B, C, P, numHeads, headDim],
      [B, C, P, numKvHeads, headDim],
    ],
    { axis: int(3) },
  )
  const vHeads = graph.op(
    'Reshape',
    [vFlat!, graph.int64([0, 0, 0, numKvHeads, headDim])],
    [B, C, P, numKvHeads, headDim],
  )
  const toKvMajor = (value: string): string =>
    graph.op('Transpose', [value], [B, numKvHeads, C, P, headDim], { perm: ints(0, 3, 1, 2, 4) })
  const k = toKvMajor(kHeads!)
  const v = toKvMajor(vHeads)
  const grouped = graph.op(
    'Reshape',
    [qHeads!, graph.int64([0, 0, 0, numKvHeads, group, headDim])],
    [B, C, P, numKvHeads, group, headDim],
  )
  const q = graph.op('Transpose', [grouped], [B, numKvHeads, C, P, group, headDim], {
    perm: ints(0, 3, 1, 2, 4, 5),
  })

  const selfRows = `${P}·group`
  const pastQ = graph.op(
    'Reshape',
    [q, graph.int64([0, 0, -1, headDim])],
    [B, numKvHeads, ROWS, headDim],
  )
  const pastProduct = graph.op('FusedMatMul', [pastQ, pastKey(layer)], [B, numKvHeads, ROWS, S], {
    transB: int(1),
    alpha: scale,
  })
  const pastScores = graph.op(
    'Reshape',
    [pastProduct, shapes.pastScores],
    [B, numKvHeads, C, P, group, S],
  )
  const selfQ = graph.op(
    'Reshape',
    [q, graph.int64([0, 0, 0, -1, headDim])],
    [B, numKvHeads, C, selfRows, headDim],
  )
  const selfProduct = graph.op('FusedMatMul', [selfQ, k], [B, numKvHeads, C, selfRows, P], {
    transB: int(1),
    alpha: scale,
  })
  const selfScores = graph.op(
    'Reshape',
    [selfProduct, shapes.selfScores],
    [B, numKvHeads, C, P, group, P],
  )
  const scores = graph.op(
    'Concat',
    [
      graph.op('Add', [pastScores, PAST_MASK], graph.dimsOf(pastScores)),
      graph.op('Add', [selfScores, SELF_MASK], graph.dimsOf(selfScores)),
    ],
    [B, numKvHeads, C, P, group, `${S}+${P}`],
    { axis: int(-1) },
  )
  const probabilities = graph.op('Softmax', [scores], graph.dimsOf(scores), { axis: int(-1) })
  const [onPast, onSelf] = graph.split(
    'Split',
    [probabilities, shapes.keySplit],
    [graph.dimsOf(pastScores), graph.dimsOf(selfScores)],
    { axis: int(-1) },
  )
  const pastZ = graph.op(
    'FusedMatMul',
    [graph.op('Reshape', [onPast!, shapes.pastRows], [B, numKvHeads, ROWS, S]), pastValue(layer)],
    [B, numKvHeads, ROWS, headDim],
    { alpha: float(1) },
  )
  const selfZ = graph.op(
    'FusedMatMul',
    [graph.op('Reshape', [onSelf!, shapes.selfRows], [B, numKvHeads, C, selfRows, P]), v],
    [B, numKvHeads, C, selfRows, headDim],
    { alpha: float(1) },
  )
  const toHeads = (value: string): string =>
    graph.op('Reshape', [value, shapes.heads], [B, numKvHeads, C, P, group, headDim])
  const sum = graph.op(
    'Add',
    [toHeads(pastZ), toHeads(selfZ)],
    [B, numKvHeads, C, P, group, headDim],
  )
  const ordered = graph.op('Transpose', [sum], [B, C, P, numKvHeads, group, headDim], {
    perm: ints(0, 2, 3, 1, 4, 5),
  })
  return graph.op(
    'Reshape',
    [ordered, graph.int64([0, 0, 0, numHeads, headDim])],
    [B, C, P, numHeads, headDim],
  )
}

/** The matrix that takes each pair (a, b) of a row to (−b, a): a quarter turn, exact in float32. */
function quarterTurn(graph: ShapedGraph, headDim: number): string {
  const values = new Float32Array(headDim * headDim)
  for (let i = 0; i < headDim; i += 2) {
    values[i * headDim + i + 1] = 1
    values[(i + 1) * headDim + i] = -1
  }
  return graph.float32('quarter_turn', [headDim, headDim], values)
}

/**
 * Each adjacent pair times c + i·s: x ⊙ c + (x turned by a quarter) ⊙ s.
 * @param x [B, C, P, heads, headDim]
 * @param cos broadcast to x, each pair's value twice; `sin` likewise
 */
function multiplyPairs(
  graph: ShapedGraph,
  turn: string,
  x: string,
  cos: string,
  sin: string,
): string {
  const dims = graph.dimsOf(x)
  const turned = graph.op('FusedMatMul', [x, turn], dims, { alpha: float(1) })
  const along = graph.op('Mul', [x, withRank(graph, cos, dims.length)], dims)
  const across = graph.op('Mul', [turned, withRank(graph, sin, dims.length)], dims)
  return graph.op('Add', [along, across], dims)
}

/** A value with 1s before its dims, so that broadcasting it keeps its rank. */
function withRank(graph: ShapedGraph, value: string, rank: number): string {
  const dims = graph.dimsOf(value)
  if (dims.length === rank) return value
  const shape = graph.op(
    'Concat',
    [
      graph.int64(new Array<number>(rank - dims.length).fill(1)),
      graph.op('Shape', [value], [dims.length]),
    ],
    [rank],
    { axis: int(0) },
  )
  return graph.op(
    'Reshape',
    [value, shape],
    [...new Array<number>(rank - dims.length).fill(1), ...dims],
  )
}

/**
 * The gold token's logit less the log of the sum over its rivals.
 * @param x [B, C, P, hidden], normalised
 * @param head [vocab, hidden]
 * @returns [B, C, P, 1]
 */
function goldLogProb(
  graph: ShapedGraph,
  { hidden, vocab }: ModelConfig,
  x: string,
  head: string,
  loss: LossKind,
): string {
  const gold = graph.op('Gather', [head, GOLD_IDS], [B, P, hidden])
  const perCandidate = graph.op('Unsqueeze', [gold, graph.int64([1])], [B, 1, P, hidden])
  const product = graph.op('Mul', [x, perCandidate], [B, C, P, hidden])
  const logit = graph.op('ReduceSum', [product, graph.int64([-1])], [B, C, P, 1], {
    keepdims: int(1),
  })
  const logSum = (logits: string): string =>
    graph.op(
      'ReduceLogSumExp',
      [logits, graph.int64([-1])],
      [...graph.dimsOf(logits).slice(0, -1), 1],
      { keepdims: int(1) },
    )
  if (loss === 'vocabulary') {
    const logits = graph.op('FusedMatMul', [x, head], [B, C, P, vocab], {
      transB: int(1),
      alpha: float(1),
    })
    return graph.op('Sub', [logit, logSum(logits)], [B, C, P, 1])
  }
  graph.input(CHOICE_IDS, 'int64', [B, P, K])
  graph.input(CHOICE_MASK, 'float32', [B, P, 1, K])
  const rows = graph.op('Gather', [head, CHOICE_IDS], [B, P, K, hidden])
  const byPosition = graph.op('Transpose', [x], [B, P, C, hidden], { perm: ints(0, 2, 1, 3) })
  const logits = graph.op('FusedMatMul', [byPosition, rows], [B, P, C, K], {
    transB: int(1),
    alpha: float(1),
  })
  const masked = graph.op('Add', [logits, CHOICE_MASK], [B, P, C, K])
  const sums = graph.op('Transpose', [logSum(masked)], [B, C, P, 1], { perm: ints(0, 2, 1, 3) })
  return graph.op('Sub', [logit, sums], [B, C, P, 1])
}
