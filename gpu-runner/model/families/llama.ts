import { inverseRootOfHeadDim, type Family } from './family.ts'

/** Llama 1 to 3 (except files with rope_freqs), Mistral, SmolLM2 and others of the same structure. */
export const LLAMA: Family = {
  arch: 'llama',
  ropePairs: 'adjacent',
  hasQkvBias: false,
  hasQkNorm: false,
  hasPostNorms: false,
  activation: 'silu',
  scalesEmbedding: false,
  slidingWindow: null,
  attentionScale: inverseRootOfHeadDim,
}
