import type { ModelConfig } from '../../model/gguf/index.ts'
import { float, int, ints, type Graph, type Initializer } from '../model.ts'
import { LOGITS, pastKey, pastValue, qkvBias, UNCAPPED_LOGITS } from '../serving/decoder.ts'
import { rotationCos, rotationSin } from '../serving/rotation.ts'
import {
  attention,
  attentionShapes,
  B,
  C,
  multiplyPairs,
  P,
  PAST_MASK,
  quarterTurn,
  ROPE_COS,
  ROPE_SIN,
  S,
  SELF_MASK,
  TOKEN_IDS,
  windowed,
} from './attention.ts'
import { differentiate } from './differentiate.ts'
import { ShapedGraph, type Dims } from './shaped-graph.ts'

/**
 * The tokens over which a position's probabilities are normalised: `choices`, a few tokens of its own
 * (a label trie's branches), or `vocabulary` (target text).
 */
export type LossKind = 'choices' | 'vocabulary'

/** Names of the graph's inputs and outputs, except for the KV's, the rotation's and attention's. */
export const GOLD_IDS = 'gold_ids'
export const GOLD_SEED = 'gold_seed'
export const CHOICE_IDS = 'choice_ids'
export const CHOICE_MASK = 'choice_mask'
export const GOLD_LOG_PROB = 'gold_log_prob'
export const gradientOf = (input: string): string => `gradient.${input}`

const K = 'choices'

/**
 * The graph of log P(gold token) and its gradient by the rotation's tables, in float32.
 *
 * A run has C candidates, B examples and P rotated positions: the last prompt token and, where labels
 * or targets have several tokens, those after it. The prompt before them is the base model's, so its
 * keys and values are inputs and the same for every candidate. Candidates come second in the dims,
 * [B, C, P, …], so that a layer's scores of all candidates are one matrix product for each example
 * and head.
 *
 * Inputs: `token_ids` [B, P] int64; `rope_cos`, `rope_sin` [B, 1, P, 1, headDim], each pair's value
 * twice; `past_mask` [B, 1, 1, 1, 1, S], 0 at the prompt's keys and hugely negative after them;
 * `self_mask` [P, 1, P], the same for positions among themselves; where the model has sliding
 * windows each of these four again for the layers that have one, `past_mask` then [B, 1, 1, P, 1, S];
 * per layer `past_key`, `past_value`
 * [B, kvHeads, S, headDim] and the tables `rotation_cos`, `rotation_sin` [C, 1, heads, headDim],
 * each pair's value twice; `gold_ids` [B, P] int64; `gold_seed` [B, C, P, 1], the weight of log
 * P(gold) in the gradient; under `choices` also `choice_ids` [B, P, K] int64 and
 * `choice_mask` [B, P, 1, K].
 * Outputs: `gold_log_prob` [B, C, P, 1]; per layer the gradients by the tables, with the tables' dims: a
 * pair's gradient is the sum of its two values.
 * @param weights tensors of the float32 build's data file, in whose folder this graph must be
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
  graph.input(PAST_MASK, 'float32', [B, 1, C, 1, 1, S])
  graph.input(SELF_MASK, 'float32', [P, 1, P])
  if (config.slidingWindow !== null) {
    graph.input(windowed(ROPE_COS), 'float32', [B, 1, P, 1, headDim])
    graph.input(windowed(ROPE_SIN), 'float32', [B, 1, P, 1, headDim])
    graph.input(windowed(PAST_MASK), 'float32', [B, 1, C, P, 1, S])
    graph.input(windowed(SELF_MASK), 'float32', [P, 1, P])
  }
  graph.input(GOLD_IDS, 'int64', [B, P])
  graph.input(GOLD_SEED, 'float32', [B, C, P, 1])
  for (let layer = 0; layer < numLayers; layer++) {
    graph.input(pastKey(layer), 'float32', [B, numKvHeads, S, headDim])
    graph.input(pastValue(layer), 'float32', [B, numKvHeads, S, headDim])
    graph.input(rotationCos(layer), 'float32', [C, 1, numHeads, headDim])
    graph.input(rotationSin(layer), 'float32', [C, 1, numHeads, headDim])
  }
  const shapes = attentionShapes(graph, config)
  const turn = quarterTurn(graph, headDim, 'adjacent')
  const { family } = config
  const ropeTurn = family.ropePairs === 'adjacent' ? turn : quarterTurn(graph, headDim, 'halves')
  const postNorm = (value: string, name: string): string =>
    family.hasPostNorms ? norm(value, name) : value

  // [B, P, hidden], then a copy for each candidate.
  const rows = graph.op('Gather', [weight('embedding'), TOKEN_IDS], [B, P, hidden])
  const embedded = family.scalesEmbedding
    ? graph.op('Mul', [rows, constant(graph, 'embedding.scale', Math.sqrt(hidden))], [B, P, hidden])
    : rows
  const single = graph.op('Unsqueeze', [embedded, graph.int64([1])], [B, 1, P, hidden])
  let x = graph.op('Expand', [single, shapes.perCandidate], [B, C, P, hidden])
  for (let layer = 0; layer < numLayers; layer++) {
    const qkv = linear(
      norm(x, `blk.${layer}.attn_norm.weight`),
      `layer.${layer}.qkv.weight`,
      (numHeads + 2 * numKvHeads) * headDim,
    )
    const biased = family.hasQkvBias ? add(qkv, weight(qkvBias(layer))) : qkv
    const normHead = (value: string, part: 'q' | 'k'): string =>
      norm(value, `blk.${layer}.attn_${part}_norm.weight`)
    const z = attention(graph, config, shapes, ropeTurn, normHead, layer, biased)
    const rotated = multiplyPairs(graph, turn, z, rotationCos(layer), rotationSin(layer))
    const joined = graph.op(
      'Reshape',
      [rotated, graph.int64([0, 0, 0, numHeads * headDim])],
      [B, C, P, numHeads * headDim],
    )
    const projected = linear(joined, `layer.${layer}.attention_output.weight`, hidden)
    x = add(x, postNorm(projected, `blk.${layer}.post_attention_norm.weight`))
    const gateUp = linear(
      norm(x, `blk.${layer}.ffn_norm.weight`),
      `layer.${layer}.gate_up.weight`,
      2 * ffn,
    )
    const half: Dims = [B, C, P, ffn]
    const [gate, up] = graph.split('Split', [gateUp, graph.int64([ffn, ffn])], [half, half], {
      axis: int(-1),
    })
    const bent =
      family.activation === 'silu'
        ? graph.op('QuickGelu', [gate!], half, { alpha: float(1) })
        : graph.op('FastGelu', [gate!], half)
    const activated = graph.op('Mul', [bent, up!], half)
    const ffnOutput = linear(activated, `layer.${layer}.ffn_output.weight`, hidden)
    x = add(x, postNorm(ffnOutput, `blk.${layer}.post_ffw_norm.weight`))
  }
  const final = norm(x, 'output_norm.weight')
  const heads = [`${LOGITS}.weight`, `${UNCAPPED_LOGITS}.weight`]
  const head = weight(heads.find((name) => weights.has(name)) ?? 'embedding')
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

/**
 * The gold token's logit minus the log of the sum over the tokens it competes with.
 * @param x [B, C, P, hidden], normalised
 * @param head [vocab, hidden]
 * @returns [B, C, P, 1]
 */
function goldLogProb(
  graph: ShapedGraph,
  { hidden, vocab, logitSoftcap }: ModelConfig,
  x: string,
  head: string,
  loss: LossKind,
): string {
  const gold = graph.op('Gather', [head, GOLD_IDS], [B, P, hidden])
  const perCandidate = graph.op('Unsqueeze', [gold, graph.int64([1])], [B, 1, P, hidden])
  const product = graph.op('Mul', [x, perCandidate], [B, C, P, hidden])
  const cap = (logits: string): string => {
    if (logitSoftcap === null) return logits
    const dims = graph.dimsOf(logits)
    const share = graph.op('Mul', [logits, constant(graph, 'cap.inverse', 1 / logitSoftcap)], dims)
    const bent = graph.op('Tanh', [share], dims)
    return graph.op('Mul', [bent, constant(graph, 'cap', logitSoftcap)], dims)
  }
  const logit = cap(
    graph.op('ReduceSum', [product, graph.int64([-1])], [B, C, P, 1], {
      keepdims: int(1),
    }),
  )
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
    return graph.op('Sub', [logit, logSum(cap(logits))], [B, C, P, 1])
  }
  graph.input(CHOICE_IDS, 'int64', [B, P, K])
  graph.input(CHOICE_MASK, 'float32', [B, P, 1, K])
  const rows = graph.op('Gather', [head, CHOICE_IDS], [B, P, K, hidden])
  const byPosition = graph.op('Transpose', [x], [B, P, C, hidden], { perm: ints(0, 2, 1, 3) })
  const logits = graph.op('FusedMatMul', [byPosition, rows], [B, P, C, K], {
    transB: int(1),
    alpha: float(1),
  })
  const masked = graph.op('Add', [cap(logits), CHOICE_MASK], [B, P, C, K])
  const sums = graph.op('Transpose', [logSum(masked)], [B, C, P, 1], { perm: ints(0, 2, 1, 3) })
  return graph.op('Sub', [logit, sums], [B, C, P, 1])
}

const constant = (graph: ShapedGraph, name: string, value: number): string =>
  graph.float32(name, [1], Float32Array.of(value))
