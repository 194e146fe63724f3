import { float, int, MICROSOFT_DOMAIN, type Graph } from '../model.ts'
import type { ModelConfig } from '../../model/gguf/index.ts'
import type { WeightFile } from '../weight-file.ts'
import { BLOCK_SIZE } from './block-quantise.ts'
import { GraphBuilder } from './graph-builder.ts'
import { linear, quantisedMatMul, transposedMatMul, type WeightFormat } from './linear.ts'
import { rotation, ROTATION_POSITIONS } from './rotation.ts'
import type { SourceWeights } from './weights.ts'

/** Names of the graph's inputs and outputs, beside the rotation's. */
export const INPUT_IDS = 'input_ids'
export const SEQLENS_K = 'seqlens_k'
export const TOTAL_SEQUENCE_LENGTH = 'total_sequence_length'
export const LOGIT_ROWS = 'logit_rows'
export const LOGITS = 'logits'
export const pastKey = (layer: number): string => `past_key.${layer}`
export const pastValue = (layer: number): string => `past_value.${layer}`
export const presentKey = (layer: number): string => `present_key.${layer}`
export const presentValue = (layer: number): string => `present_value.${layer}`

export type DecoderOptions = {
  readonly format: WeightFormat
  /** False leaves the rotation nodes out: the yardstick of what they cost. */
  readonly rotation: boolean
  /** Positions of the rotary table: the most tokens a row may hold. */
  readonly maxContext: number
}

/**
 * The llama decoder as an ONNX graph.
 *
 * Inputs: `input_ids` [batch, sequence] int64; `seqlens_k` [batch] int32, the row's length after this
 * call less one; `total_sequence_length` [1] int32, the longest of them plus one; `logit_rows` [n]
 * int64, flat token indices whose logits are wanted (may be empty); `rotation_positions`
 * [batch·sequence, heads] int64; per layer `past_key`, `past_value` [batch, kvHeads, capacity,
 * headDim] and the rotation's tables.
 * Outputs: `logits` [n, vocab], per layer `present_key`, `present_value`: bound to the buffers of the
 * past, GroupQueryAttention writes in place.
 */
export async function buildDecoder(
  config: ModelConfig,
  source: SourceWeights,
  weights: WeightFile,
  options: DecoderOptions,
): Promise<Graph> {
  const graph = new GraphBuilder(weights)
  const { hidden, numHeads, numKvHeads, headDim, ffn, vocab } = config
  graph.input(INPUT_IDS, 'int64', ['batch', 'sequence'])
  graph.input(SEQLENS_K, 'int32', ['batch'])
  graph.input(TOTAL_SEQUENCE_LENGTH, 'int32', [1])
  graph.input(LOGIT_ROWS, 'int64', ['logit_rows'])
  if (options.rotation) graph.input(ROTATION_POSITIONS, 'int64', ['tokens', numHeads])
  graph.output(LOGITS, 'float32', ['logit_rows', vocab])

  await ropeTables(graph, config, options.maxContext)
  await embeddingWeights(graph, source, options.format, config)
  let hiddenState = embed(graph, options.format)
  // [batch, sequence, heads·headDim], to put rotated heads back together.
  const idsShape = graph.op('Shape', 'input_ids.shape', [INPUT_IDS])
  const attentionShape = graph.op(
    'Concat',
    'attention.shape',
    [idsShape, graph.int64('attention.size', [numHeads * headDim])],
    { axis: int(0) },
  )

  const norm = (name: string): Promise<string> =>
    source.float32(name).then((values) => graph.weight(name, 'float32', [hidden], values))
  /** residual + update, and its normalised form; the sum runs on as the residual. */
  const addAndNorm = async (name: string, residual: string, update: string, weight: string) => {
    const sum = `${name}.sum`
    graph.node(
      'SkipSimplifiedLayerNormalization',
      name,
      [residual, update, await norm(weight)],
      [name, '', '', sum],
      { epsilon: float(config.rmsEps) },
      MICROSOFT_DOMAIN,
    )
    return { normalised: name, residual: sum }
  }

  let normalised = graph.op(
    'SimplifiedLayerNormalization',
    'layer.0.attention_norm',
    [hiddenState, await norm('blk.0.attn_norm.weight')],
    { axis: int(-1), epsilon: float(config.rmsEps) },
  )
  let update = ''
  for (let layer = 0; layer < config.numLayers; layer++) {
    const name = `layer.${layer}`
    const tensor = (part: string): string => `blk.${layer}.${part}.weight`
    if (layer > 0) {
      const next = await addAndNorm(
        `${name}.attention_norm`,
        hiddenState,
        update,
        tensor('attn_norm'),
      )
      normalised = next.normalised
      hiddenState = next.residual
    }
    const qkv = await linear(
      graph,
      source,
      options.format,
      `${name}.qkv`,
      normalised,
      [tensor('attn_q'), tensor('attn_k'), tensor('attn_v')],
      hidden,
    )
    let z = attention(graph, config, layer, qkv)
    if (options.rotation) z = rotation(graph, `${name}.rotation`, z, attentionShape, layer, config)
    const projected = await linear(
      graph,
      source,
      options.format,
      `${name}.attention_output`,
      z,
      [tensor('attn_output')],
      numHeads * headDim,
    )
    const middle = await addAndNorm(`${name}.ffn_norm`, hiddenState, projected, tensor('ffn_norm'))
    hiddenState = middle.residual
    const gateUp = await linear(
      graph,
      source,
      options.format,
      `${name}.gate_up`,
      middle.normalised,
      [tensor('ffn_gate'), tensor('ffn_up')],
      hidden,
    )
    const halves = graph.int64('ffn.halves', [ffn, ffn])
    graph.node('Split', `${name}.split`, [gateUp, halves], [`${name}.gate`, `${name}.up`], {
      axis: int(-1),
    })
    // QuickGelu with alpha 1 is SiLU: x·sigmoid(x) in one kernel.
    const gate = graph.contrib('QuickGelu', `${name}.silu`, [`${name}.gate`], { alpha: float(1) })
    const activated = graph.op('Mul', `${name}.activated`, [gate, `${name}.up`])
    update = await linear(
      graph,
      source,
      options.format,
      `${name}.ffn_output`,
      activated,
      [tensor('ffn_down')],
      ffn,
    )
  }

  const final = await addAndNorm('final_norm', hiddenState, update, 'output_norm.weight')
  const flat = graph.op('Reshape', 'final.flat', [
    final.normalised,
    graph.int64('final.flat_shape', [-1, hidden]),
  ])
  const wanted = graph.op('Gather', 'final.wanted', [flat, LOGIT_ROWS], { axis: int(0) })
  const tied = !source.has('output.weight')
  if (!tied) {
    await linear(graph, source, options.format, LOGITS, wanted, ['output.weight'], hidden)
  } else if (options.format === 'float32') {
    transposedMatMul(graph, LOGITS, wanted, EMBEDDING)
  } else {
    graph.alias(`${LOGITS}.codes`, EMBEDDING, [vocab, hidden / BLOCK_SIZE, BLOCK_SIZE])
    graph.alias(`${LOGITS}.scales`, EMBEDDING_SCALES, [(vocab * hidden) / BLOCK_SIZE])
    quantisedMatMul(graph, LOGITS, wanted, { rows: vocab, inputSize: hidden, bits: 8 })
  }
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const present of [presentKey(layer), presentValue(layer)]) {
      graph.output(present, 'float32', ['batch', numKvHeads, 'capacity', headDim])
    }
  }
  return graph.finish()
}

const EMBEDDING = 'embedding'
const EMBEDDING_SCALES = 'embedding.scales'

async function embeddingWeights(
  graph: GraphBuilder,
  source: SourceWeights,
  format: WeightFormat,
  { vocab, hidden }: ModelConfig,
): Promise<void> {
  const tensor = 'token_embd.weight'
  if (format === 'float32') {
    await graph.weight(EMBEDDING, 'float32', [vocab, hidden], await source.float32(tensor))
    return
  }
  const { bits, codes, scales } = await source.stackedQuantised([tensor])
  if (bits !== 8) throw new Error('4-bit embeddings are not served yet')
  await graph.weight(EMBEDDING, 'uint8', [vocab, hidden], codes)
  await graph.weight(EMBEDDING_SCALES, 'float32', [vocab, hidden / BLOCK_SIZE], scales)
}

/** [batch, sequence] token ids → [batch, sequence, hidden]. */
function embed(graph: GraphBuilder, format: WeightFormat): string {
  if (format === 'float32') return graph.op('Gather', 'embedded', [EMBEDDING, INPUT_IDS])
  return graph.contrib(
    'GatherBlockQuantized',
    'embedded',
    [EMBEDDING, INPUT_IDS, EMBEDDING_SCALES],
    {
      gather_axis: int(0),
      quantize_axis: int(1),
      block_size: int(BLOCK_SIZE),
      bits: int(8),
    },
  )
}

function attention(graph: GraphBuilder, config: ModelConfig, layer: number, qkv: string): string {
  const { numHeads, numKvHeads, headDim } = config
  for (const past of [pastKey(layer), pastValue(layer)]) {
    graph.input(past, 'float32', ['batch', numKvHeads, 'capacity', headDim])
  }
  const z = `layer.${layer}.z`
  graph.node(
    'GroupQueryAttention',
    z,
    [
      qkv,
      '',
      '',
      pastKey(layer),
      pastValue(layer),
      SEQLENS_K,
      TOTAL_SEQUENCE_LENGTH,
      'rope_cos',
      'rope_sin',
    ],
    [z, presentKey(layer), presentValue(layer)],
    {
      num_heads: int(numHeads),
      kv_num_heads: int(numKvHeads),
      do_rotary: int(1),
      // GGUF stores llama's q and k rows so that rotary pairs are neighbours.
      rotary_interleaved: int(1),
    },
    MICROSOFT_DOMAIN,
  )
  return z
}

async function ropeTables(
  graph: GraphBuilder,
  { headDim, ropeBase }: ModelConfig,
  maxContext: number,
): Promise<void> {
  const numPairs = headDim / 2
  const cos = new Float32Array(maxContext * numPairs)
  const sin = new Float32Array(maxContext * numPairs)
  for (let position = 0; position < maxContext; position++) {
    for (let pair = 0; pair < numPairs; pair++) {
      const angle = position * ropeBase ** (-pair / numPairs)
      cos[position * numPairs + pair] = Math.cos(angle)
      sin[position * numPairs + pair] = Math.sin(angle)
    }
  }
  await graph.weight('rope_cos', 'float32', [maxContext, numPairs], cos)
  await graph.weight('rope_sin', 'float32', [maxContext, numPairs], sin)
}
