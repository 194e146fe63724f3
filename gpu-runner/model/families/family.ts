/**
 * What sets one family of decoders apart from another. All are pre-norm transformers with rotary
 * positions, grouped-query attention and a gated feed-forward network, written by llama.cpp's
 * converter; the graph builders read these fields and know no family by name.
 */
export type Family = {
  /** The GGUF file's `general.architecture`, and the prefix of its keys. */
  readonly arch: string
  /**
   * Which values of a head turn together: neighbours (2i, 2i+1), as GGUF reorders llama's q and k
   * rows, or halves (i, i + headDim/2), where it keeps them as trained.
   */
  readonly ropePairs: 'adjacent' | 'halves'
  /** q, k and v have biases. */
  readonly hasQkvBias: boolean
  /** Each head's q and k are normalised before the rotary embedding. */
  readonly hasQkNorm: boolean
  /** Attention's and the feed-forward network's outputs are normalised before they are added. */
  readonly hasPostNorms: boolean
  /** Of the gate: x·σ(x), or GELU in its tanh form. */
  readonly activation: 'silu' | 'gelu_tanh'
  /** Embeddings are multiplied by √hidden. */
  readonly scalesEmbedding: boolean
  /** Where layers with a sliding window and layers without take turns. */
  readonly slidingWindow: SlidingWindowDefaults | null
  /** What q·k is multiplied by. */
  readonly attentionScale: (geometry: AttentionGeometry) => number
}

/** For files that leave it out, as most do. */
export type SlidingWindowDefaults = {
  /** Of this many layers, all but the last see a window only. */
  readonly period: number
  /** Rotary base of the layers with a window. */
  readonly ropeBase: number
}

export type AttentionGeometry = {
  readonly numLayers: number
  readonly hidden: number
  readonly numHeads: number
  readonly headDim: number
}

/** The usual choice: 1/√headDim. */
export const inverseRootOfHeadDim = ({ headDim }: AttentionGeometry): number => headDim ** -0.5

const MATRICES = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down']

/** Every tensor that the family's graph reads or may read. `output.weight` is absent where the
 * head is the embedding. */
export function tensorNames(family: Family, numLayers: number): ReadonlySet<string> {
  const parts = [...MATRICES, 'attn_norm', 'ffn_norm'].map((part) => `${part}.weight`)
  if (family.hasQkvBias) parts.push('attn_q.bias', 'attn_k.bias', 'attn_v.bias')
  if (family.hasQkNorm) parts.push('attn_q_norm.weight', 'attn_k_norm.weight')
  if (family.hasPostNorms) parts.push('post_attention_norm.weight', 'post_ffw_norm.weight')
  const names = ['token_embd.weight', 'output_norm.weight', 'output.weight']
  for (let layer = 0; layer < numLayers; layer++) {
    names.push(...parts.map((part) => `blk.${layer}.${part}`))
  }
  return new Set(names)
}
