import { inverseRootOfHeadDim, type Family } from './family.ts'

/** Only the 27B model has this many layers. */
const NUM_LAYERS_OF_27B = 62

/** The text part of Gemma 3. GGUF stores a norm's weight as 1 + w, so the norms are the usual ones. */
export const GEMMA3: Family = {
  arch: 'gemma3',
  ropePairs: 'halves',
  hasQkvBias: false,
  hasQkNorm: true,
  hasPostNorms: true,
  activation: 'gelu_tanh',
  scalesEmbedding: true,
  slidingWindow: { period: 6, ropeBase: 10_000 },
  // The 27B model was trained with 1/√(hidden/heads), which the file does not say.
  attentionScale: (geometry) =>
    geometry.numLayers === NUM_LAYERS_OF_27B
      ? (geometry.hidden / geometry.numHeads) ** -0.5
      : inverseRootOfHeadDim(geometry),
}
