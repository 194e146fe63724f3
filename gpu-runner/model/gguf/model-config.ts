import { GgufError } from './errors.ts'
import type { GgufMetadata } from './metadata.ts'

/** Shapes and constants of a decoder, as the graph builder needs them. */
export interface ModelConfig {
  readonly arch: 'llama'
  readonly numLayers: number
  readonly hidden: number
  readonly numHeads: number
  readonly numKvHeads: number
  readonly headDim: number
  readonly ffn: number
  readonly vocab: number
  readonly ropeBase: number
  readonly rmsEps: number
  readonly contextLength: number
}

/** Far above today's largest open models, far below what would exhaust memory by itself. */
const MAX_LAYERS = 1024
const MAX_WIDTH = 1 << 20
const MAX_HEADS = 4096
const MAX_VOCAB = 1 << 22
const MAX_CONTEXT = 1 << 26
/** llama.cpp's default where a file names none. */
const DEFAULT_ROPE_BASE = 10_000

/**
 * Reads a llama-architecture decoder's configuration from a GGUF header.
 * @throws {GgufError} another architecture, a feature the graph does not build, or absurd values
 */
export function decodeModelConfig(metadata: GgufMetadata): ModelConfig {
  const arch = metadata.string('general.architecture')
  if (arch !== 'llama') throw new GgufError(`architecture ${arch} is not served; llama is`)

  const count = (key: string, max: number): number => {
    const value = metadata.number(key)
    if (!Number.isInteger(value) || value < 1 || value > max) {
      throw new GgufError(`metadata ${key} is ${value}; an integer in 1..${max} is needed`)
    }
    return value
  }
  const numLayers = count('llama.block_count', MAX_LAYERS)
  const hidden = count('llama.embedding_length', MAX_WIDTH)
  const ffn = count('llama.feed_forward_length', MAX_WIDTH)
  const numHeads = count('llama.attention.head_count', MAX_HEADS)
  const numKvHeads = metadata.has('llama.attention.head_count_kv')
    ? count('llama.attention.head_count_kv', MAX_HEADS)
    : numHeads
  const headDim = metadata.has('llama.attention.key_length')
    ? count('llama.attention.key_length', MAX_WIDTH)
    : hidden / numHeads
  const contextLength = count('llama.context_length', MAX_CONTEXT)
  const vocab = metadata.has('llama.vocab_size')
    ? count('llama.vocab_size', MAX_VOCAB)
    : metadata.strings('tokenizer.ggml.tokens').length
  const ropeBase = metadata.optionalNumber('llama.rope.freq_base') ?? DEFAULT_ROPE_BASE
  const rmsEps = metadata.number('llama.attention.layer_norm_rms_epsilon')

  if (numHeads % numKvHeads !== 0) {
    throw new GgufError(`${numHeads} heads cannot share ${numKvHeads} key-value heads evenly`)
  }
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new GgufError(`a head of ${headDim} values has no whole number of pairs`)
  }
  const valueDim = metadata.optionalNumber('llama.attention.value_length') ?? headDim
  if (valueDim !== headDim) {
    throw new GgufError(`value heads of ${valueDim} beside key heads of ${headDim} are not served`)
  }
  const ropeDims = metadata.optionalNumber('llama.rope.dimension_count') ?? headDim
  if (ropeDims !== headDim) {
    throw new GgufError(`rope over ${ropeDims} of ${headDim} values is not served`)
  }
  const scaling = metadata.optionalString('llama.rope.scaling.type') ?? 'none'
  if (scaling !== 'none') throw new GgufError(`rope scaling ${scaling} is not served`)
  if ((metadata.optionalNumber('llama.expert_count') ?? 0) > 0) {
    throw new GgufError('mixtures of experts are not served')
  }
  if (!(ropeBase > 0) || !Number.isFinite(ropeBase)) {
    throw new GgufError(`metadata llama.rope.freq_base is ${ropeBase}`)
  }
  if (!(rmsEps > 0 && rmsEps < 1)) {
    throw new GgufError(`metadata llama.attention.layer_norm_rms_epsilon is ${rmsEps}`)
  }
  return {
    arch,
    numLayers,
    hidden,
    numHeads,
    numKvHeads,
    headDim,
    ffn,
    vocab,
    ropeBase,
    rmsEps,
    contextLength,
  }
}
