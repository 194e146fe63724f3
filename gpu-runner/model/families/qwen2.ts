import { inverseRootOfHeadDim, type Family } from './family.ts'

/** Qwen 2 and 2.5, dense. */
export const QWEN2: Family = {
  arch: 'qwen2',
  ropePairs: 'halves',
  hasQkvBias: true,
  hasQkNorm: false,
  hasPostNorms: false,
  activation: 'silu',
  scalesEmbedding: false,
  slidingWindow: null,
  attentionScale: inverseRootOfHeadDim,
}
