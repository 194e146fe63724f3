/**
 * The differences between families of decoders. All of them are pre-norm transformers with rotary
 * positions, grouped-query attention and a gated feed-forward network, in files of llama.cpp's
 * converter. The graph builders read these fields and know no family by name.
 */
export type Family = {
  /** The GGUF file's `general.architecture`, and the prefix of its keys. */
  readonly arch: string
  /**
   * Which values of a head form a pair of the rotary embedding: neighbours (2i, 2i+1), since GGUF
   * reorders llama's q and k rows so, or halves (i, i + headDim/2), where GGUF keeps the order of
   * training.
   */
  readonly ropePairs: 'adjacent' | 'halves'
  /** Whether q, k and v have biases. */
  readonly hasQkvBias: boolean
  /** Whether each head's q and k are normalised before the rotary embedding. */
  readonly hasQkNorm: boolean
  /** Whether attention's and the feed-forward network's outputs are normalised before they are added. */
  readonly hasPostNorms: boolean
  /** Activation of the gate: x·σ(x), or GELU in its tanh form. */
  readonly activation: 'silu' | 'gelu_tanh'
  /** Whether embeddings are multiplied by √hidden. */
  readonly scalesEmbedding: boolean
  /** Set where layers with and without a sliding window alternate. */
  readonly slidingWindow: SlidingWindowDefaults | null
  /** The factor of q·k. */
  readonly attentionScale: (geometry: AttentionGeometry) => number
}

/** Values for files that leave them out, as most do. */
export type SlidingWindowDefaults = {
  /** In each group of this many layers, all but the last have a window. */
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

/**
 * Names of all tensors that the family's graph reads or may read. A file without `output.weight` uses
 * the embedding as its head.
 */
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
