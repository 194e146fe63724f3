import { float, int, MICROSOFT_DOMAIN, type Attribute } from '../model.ts'
import { isWindowed, ropeAngle, type ModelConfig } from '../../model/gguf/index.ts'
import type { GraphBuilder } from './graph-builder.ts'
import type { SourceWeights } from './weights.ts'

export const SEQLENS_K = 'seqlens_k'
export const TOTAL_SEQUENCE_LENGTH = 'total_sequence_length'
export const pastKey = (layer: number): string => `past_key.${layer}`
export const pastValue = (layer: number): string => `past_value.${layer}`
export const presentKey = (layer: number): string => `present_key.${layer}`
export const presentValue = (layer: number): string => `present_value.${layer}`

/** Name of a rotary table; layers with a window have their own. */
const ropeTable = (part: 'cos' | 'sin', windowed: boolean): string =>
  windowed ? `rope_${part}.windowed` : `rope_${part}`

/**
 * Attention over a row's keys and values. Those of this call are added to them in place.
 * @param qkv [batch, sequence, (heads + 2·kvHeads)·headDim]
 * @returns z, [batch, sequence, heads·headDim]
 */
export async function attention(
  graph: GraphBuilder,
  source: SourceWeights,
  config: ModelConfig,
  layer: number,
  qkv: string,
): Promise<string> {
  const { family, numHeads, numKvHeads, headDim } = config
  for (const past of [pastKey(layer), pastValue(layer)]) {
    graph.input(past, 'float32', ['batch', numKvHeads, 'capacity', headDim])
  }
  const z = `layer.${layer}.z`
  const windowed = isWindowed(config, layer)
  const inputs = family.hasQkNorm
    ? await normalisedHeads(graph, source, config, layer, qkv)
    : [qkv, '', '']
  const attributes: Record<string, Attribute> = {
    num_heads: int(numHeads),
    kv_num_heads: int(numKvHeads),
    do_rotary: int(1),
    rotary_interleaved: int(family.ropePairs === 'adjacent' ? 1 : 0),
  }
  // The operator's default is 1/√headDim.
  if (config.attentionScale !== headDim ** -0.5) attributes['scale'] = float(config.attentionScale)
  if (windowed) attributes['local_window_size'] = int(config.slidingWindow!.windowLen)
  graph.node(
    'GroupQueryAttention',
    z,
    [
      ...inputs,
      pastKey(layer),
      pastValue(layer),
      SEQLENS_K,
      TOTAL_SEQUENCE_LENGTH,
      ropeTable('cos', windowed),
      ropeTable('sin', windowed),
    ],
    [z, presentKey(layer), presentValue(layer)],
    attributes,
    MICROSOFT_DOMAIN,
  )
  return z
}

/** Normalises each head of q and k by itself; v stays as it is. */
async function normalisedHeads(
  graph: GraphBuilder,
  source: SourceWeights,
  { numHeads, numKvHeads, headDim, rmsEps }: ModelConfig,
  layer: number,
  qkv: string,
): Promise<readonly string[]> {
  const name = `layer.${layer}`
  const kvSize = numKvHeads * headDim
  const sizes = graph.int64('qkv.sizes', [numHeads * headDim, kvSize, kvSize])
  const parts = [`${name}.q`, `${name}.k`, `${name}.v`] as const
  graph.node('Split', `${name}.qkv_split`, [qkv, sizes], parts, { axis: int(-1) })
  const normalise = async (part: string, tensor: string, heads: number): Promise<string> => {
    const weight = `blk.${layer}.${tensor}.weight`
    await graph.weight(weight, 'float32', [headDim], await source.float32(weight))
    // 0 keeps a dimension as it is.
    const split = graph.op('Reshape', `${part}.heads`, [
      part,
      graph.int64(`heads.${heads}`, [0, 0, heads, headDim]),
    ])
    const normalised = graph.op('SimplifiedLayerNormalization', `${part}.norm`, [split, weight], {
      axis: int(-1),
      epsilon: float(rmsEps),
    })
    return graph.op('Reshape', `${part}.normalised`, [
      normalised,
      graph.int64(`heads.${heads}.joined`, [0, 0, heads * headDim]),
    ])
  }
  return [
    await normalise(parts[0], 'attn_q_norm', numHeads),
    await normalise(parts[1], 'attn_k_norm', numKvHeads),
    parts[2],
  ]
}

/** The rotary embedding's tables of cosines and sines, [maxContext, headDim/2] each. */
export async function ropeTables(
  graph: GraphBuilder,
  config: ModelConfig,
  maxContext: number,
): Promise<void> {
  const numPairs = config.headDim / 2
  for (const windowed of config.slidingWindow === null ? [false] : [false, true]) {
    const cos = new Float32Array(maxContext * numPairs)
    const sin = new Float32Array(maxContext * numPairs)
    for (let position = 0; position < maxContext; position++) {
      for (let pair = 0; pair < numPairs; pair++) {
        const angle = ropeAngle(config, windowed, position, pair)
        cos[position * numPairs + pair] = Math.cos(angle)
        sin[position * numPairs + pair] = Math.sin(angle)
      }
    }
    await graph.weight(ropeTable('cos', windowed), 'float32', [maxContext, numPairs], cos)
    await graph.weight(ropeTable('sin', windowed), 'float32', [maxContext, numPairs], sin)
  }
}
