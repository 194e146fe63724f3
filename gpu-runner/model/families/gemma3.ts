import { inverseRootOfHeadDim, type Family } from './family.ts'

/** The 27B model is the only one with as many layers. */
const NUM_LAYERS_OF_27B = 62

/** Gemma 3, its text half. GGUF stores a norm's weight as 1 + w, so norms are the usual ones. */
export const GEMMA3: Family = {
  arch: 'gemma3',
  ropePairs: 'halves',
  hasQkvBias: false,
  hasQkNorm: true,
  hasPostNorms: true,
  activation: 'gelu_tanh',
  scalesEmbedding: true,
  slidingWindow: { period: 6, ropeBase: 10_000 },
  // The 27B model was trained with 1/√(hidden/heads), which no key of the file says.
  attentionScale: (geometry) =>
    geometry.numLayers === NUM_LAYERS_OF_27B
      ? (geometry.hidden / geometry.numHeads) ** -0.5
      : inverseRootOfHeadDim(geometry),
}
