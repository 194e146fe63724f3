import { inverseRootOfHeadDim, type Family } from './family.ts'

/** Qwen 3, dense. */
export const QWEN3: Family = {
  arch: 'qwen3',
  ropePairs: 'halves',
  hasQkvBias: false,
  hasQkNorm: true,
  hasPostNorms: false,
  activation: 'silu',
  scalesEmbedding: false,
  slidingWindow: null,
  attentionScale: inverseRootOfHeadDim,
}
