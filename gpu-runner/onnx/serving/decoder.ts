import { float, int, MICROSOFT_DOMAIN, type Graph } from '../model.ts'
import type { ModelConfig } from '../../model/gguf/index.ts'
import type { WeightFile } from '../weight-file.ts'
import {
  attention,
  pastKey,
  pastValue,
  presentKey,
  presentValue,
  ropeTables,
  SEQLENS_K,
  TOTAL_SEQUENCE_LENGTH,
} from './attention.ts'
import { BLOCK_SIZE } from './block-quantise.ts'
import { GraphBuilder } from './graph-builder.ts'
import { linear, quantisedMatMul, transposedMatMul, type WeightFormat } from './linear.ts'
import { rotation, ROTATION_POSITIONS } from './rotation.ts'
import type { SourceWeights } from './weights.ts'

/** Names of the graph's inputs and outputs, except for the rotation's and attention's. */
export const INPUT_IDS = 'input_ids'
export const LOGIT_ROWS = 'logit_rows'
export const LOGITS = 'logits'
export { pastKey, pastValue, presentKey, presentValue, SEQLENS_K, TOTAL_SEQUENCE_LENGTH }

export type DecoderOptions = {
  readonly format: WeightFormat
  /** False leaves the rotation nodes out, to measure what they cost. */
  readonly rotation: boolean
  /** Positions of the rotary table: the most tokens a row may hold. */
  readonly maxContext: number
}

/**
 * Writes a decoder as an ONNX graph, as its family's record describes it.
 *
 * Inputs: `input_ids` [batch, sequence] int64; `seqlens_k` [batch] int32, the row's length after this
 * call minus one; `total_sequence_length` [1] int32, the longest of them plus one; `logit_rows` [n]
 * int64, flat indices of the tokens whose logits are computed (may be empty); `rotation_positions`
 * [batch·sequence, heads] int64; per layer `past_key`, `past_value` [batch, kvHeads, capacity,
 * headDim] and the rotation's tables.
 * Outputs: `logits` [n, vocab]; per layer `present_key`, `present_value`, which are bound to the
 * buffers of the past so that GroupQueryAttention writes in place.
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
  let hiddenState = embed(graph, options.format, config)
  // [batch, sequence, heads·headDim], the shape to which rotated heads are joined again.
  const idsShape = graph.op('Shape', 'input_ids.shape', [INPUT_IDS])
  const attentionShape = graph.op(
    'Concat',
    'attention.shape',
    [idsShape, graph.int64('attention.size', [numHeads * headDim])],
    { axis: int(0) },
  )

  const norm = (name: string): Promise<string> =>
    source.float32(name).then((values) => graph.weight(name, 'float32', [hidden], values))
  /** residual + update, and its normalised form; the sum is the next residual. */
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

  const postNorm = async (name: string, value: string, weight: string): Promise<string> =>
    config.family.hasPostNorms
      ? graph.op('SimplifiedLayerNormalization', name, [value, await norm(weight)], {
          axis: int(-1),
          epsilon: float(config.rmsEps),
        })
      : value

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
    const biased = config.family.hasQkvBias ? await addQkvBias(graph, source, layer, qkv) : qkv
    let z = await attention(graph, source, config, layer, biased)
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
    const middle = await addAndNorm(
      `${name}.ffn_norm`,
      hiddenState,
      await postNorm(`${name}.post_attention_norm`, projected, tensor('post_attention_norm')),
      tensor('ffn_norm'),
    )
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
    // QuickGelu with alpha 1 is SiLU: x·sigmoid(x) in one kernel. FastGelu is GELU by tanh.
    const gate =
      config.family.activation === 'silu'
        ? graph.contrib('QuickGelu', `${name}.silu`, [`${name}.gate`], { alpha: float(1) })
        : graph.contrib('FastGelu', `${name}.gelu`, [`${name}.gate`])
    const activated = graph.op('Mul', `${name}.activated`, [gate, `${name}.up`])
    const ffnOutput = await linear(
      graph,
      source,
      options.format,
      `${name}.ffn_output`,
      activated,
      [tensor('ffn_down')],
      ffn,
    )
    update = await postNorm(`${name}.post_ffn_norm`, ffnOutput, tensor('post_ffw_norm'))
  }

  const final = await addAndNorm('final_norm', hiddenState, update, 'output_norm.weight')
  const flat = graph.op('Reshape', 'final.flat', [
    final.normalised,
    graph.int64('final.flat_shape', [-1, hidden]),
  ])
  const wanted = graph.op('Gather', 'final.wanted', [flat, LOGIT_ROWS], { axis: int(0) })
  // A node is named after its output, and the head's weights after the node.
  const head = config.logitSoftcap === null ? LOGITS : UNCAPPED_LOGITS
  const tied = !source.has('output.weight')
  if (!tied) {
    await linear(graph, source, options.format, head, wanted, ['output.weight'], hidden)
  } else if (options.format === 'float32') {
    transposedMatMul(graph, head, wanted, EMBEDDING)
  } else {
    graph.alias(`${head}.codes`, EMBEDDING, [vocab, hidden / BLOCK_SIZE, BLOCK_SIZE])
    graph.alias(`${head}.scales`, EMBEDDING_SCALES, [(vocab * hidden) / BLOCK_SIZE])
    quantisedMatMul(graph, head, wanted, { rows: vocab, inputSize: hidden, bits: 8 })
  }
  if (config.logitSoftcap !== null) {
    const cap = graph.float32('logits.cap', [1], Float32Array.of(config.logitSoftcap))
    const share = graph.op('Div', 'logits.share', [head, cap])
    graph.op('Mul', LOGITS, [graph.op('Tanh', 'logits.tanh', [share]), cap])
  }
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const present of [presentKey(layer), presentValue(layer)]) {
      graph.output(present, 'float32', ['batch', numKvHeads, 'capacity', headDim])
    }
  }
  return graph.finish()
}

/** Name of the head's output where logits are capped, and prefix of its weights' names. */
export const UNCAPPED_LOGITS = 'logits.uncapped'
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
  if (bits !== 8) throw new Error('4-bit embeddings are not supported yet')
  await graph.weight(EMBEDDING, 'uint8', [vocab, hidden], codes)
  await graph.weight(EMBEDDING_SCALES, 'float32', [vocab, hidden / BLOCK_SIZE], scales)
}

/** [batch, sequence] token ids → [batch, sequence, hidden]. */
function embed(graph: GraphBuilder, format: WeightFormat, config: ModelConfig): string {
  const rows =
    format === 'float32'
      ? graph.op('Gather', 'embedded', [EMBEDDING, INPUT_IDS])
      : graph.contrib(
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
  if (!config.family.scalesEmbedding) return rows
  const scale = graph.float32('embedding.scale', [1], Float32Array.of(Math.sqrt(config.hidden)))
  return graph.op('Mul', 'embedded.scaled', [rows, scale])
}

/** Adds the biases of q, k and v, one after the other, to [..., (heads + 2·kvHeads)·headDim]. */
async function addQkvBias(
  graph: GraphBuilder,
  source: SourceWeights,
  layer: number,
  qkv: string,
): Promise<string> {
  const names = ['attn_q', 'attn_k', 'attn_v'].map((part) => `blk.${layer}.${part}.bias`)
  const values = await source.stackedFloat32(names)
  const bias = await graph.weight(qkvBias(layer), 'float32', [values.length], values)
  return graph.op('Add', `layer.${layer}.qkv_biased`, [qkv, bias])
}

export const qkvBias = (layer: number): string => `layer.${layer}.qkv.bias`
