import { FAMILIES, tensorNames, type Family } from '../families/index.ts'
import { GgufError } from './errors.ts'
import type { GgufMetadata } from './metadata.ts'

/** Shapes and constants of a decoder, as the graph builders need them. */
export interface ModelConfig {
  readonly family: Family
  readonly numLayers: number
  readonly hidden: number
  readonly numHeads: number
  readonly numKvHeads: number
  readonly headDim: number
  readonly ffn: number
  readonly vocab: number
  readonly ropeBase: number
  /** Divides positions, except in layers with a window. */
  readonly ropeScale: number
  /** Set where some layers attend only to a window; null where all attend to everything. */
  readonly slidingWindow: SlidingWindow | null
  readonly attentionScale: number
  /** Logits are squeezed into ± this by tanh; null leaves them as they are. */
  readonly logitSoftcap: number | null
  readonly rmsEps: number
  readonly contextLength: number
}

export interface SlidingWindow {
  /** Positions that a position attends to, its own included. */
  readonly windowLen: number
  /** In each group of this many layers, all but the last have the window. */
  readonly period: number
  readonly ropeBase: number
}

/** These are far above today's largest open models, and far below sizes that would exhaust memory. */
const MAX_LAYERS = 1024
const MAX_WIDTH = 1 << 20
const MAX_HEADS = 4096
const MAX_VOCAB = 1 << 22
const MAX_CONTEXT = 1 << 26
/** llama.cpp's default for a file that names none. */
const DEFAULT_ROPE_BASE = 10_000

/**
 * Reads a decoder's configuration from a GGUF header.
 * @throws {GgufError} another architecture, a feature the graph does not build, or absurd values
 */
export function decodeModelConfig(metadata: GgufMetadata): ModelConfig {
  const arch = metadata.string('general.architecture')
  const family = FAMILIES.get(arch)
  if (!family) {
    throw new GgufError(
      `architecture ${arch} is not served; ${[...FAMILIES.keys()].join(', ')} are`,
    )
  }
  const key = (name: string): string => `${arch}.${name}`
  const has = (name: string): boolean => metadata.has(key(name))
  const count = (name: string, max: number): number => {
    const value = metadata.number(key(name))
    if (!Number.isInteger(value) || value < 1 || value > max) {
      throw new GgufError(`metadata ${key(name)} is ${value}; an integer in 1..${max} is needed`)
    }
    return value
  }
  const positive = (name: string, fallback: number): number => {
    const value = metadata.optionalNumber(key(name)) ?? fallback
    if (!(value > 0) || !Number.isFinite(value)) {
      throw new GgufError(`metadata ${key(name)} is ${value}`)
    }
    return value
  }
  const numLayers = count('block_count', MAX_LAYERS)
  const hidden = count('embedding_length', MAX_WIDTH)
  const ffn = count('feed_forward_length', MAX_WIDTH)
  const numHeads = count('attention.head_count', MAX_HEADS)
  const numKvHeads = has('attention.head_count_kv')
    ? count('attention.head_count_kv', MAX_HEADS)
    : numHeads
  const headDim = has('attention.key_length')
    ? count('attention.key_length', MAX_WIDTH)
    : hidden / numHeads
  const contextLength = count('context_length', MAX_CONTEXT)
  const vocab = has('vocab_size')
    ? count('vocab_size', MAX_VOCAB)
    : metadata.strings('tokenizer.ggml.tokens').length
  const rmsEps = metadata.number(key('attention.layer_norm_rms_epsilon'))

  if (numHeads % numKvHeads !== 0) {
    throw new GgufError(`${numHeads} heads cannot share ${numKvHeads} key-value heads evenly`)
  }
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new GgufError(`a head of ${headDim} values has no whole number of pairs`)
  }
  const valueDim = metadata.optionalNumber(key('attention.value_length')) ?? headDim
  if (valueDim !== headDim) {
    throw new GgufError(`value heads of ${valueDim} beside key heads of ${headDim} are not served`)
  }
  const ropeDims = metadata.optionalNumber(key('rope.dimension_count')) ?? headDim
  if (ropeDims !== headDim) {
    throw new GgufError(`rope over ${ropeDims} of ${headDim} values is not served`)
  }
  const scaling = metadata.optionalString(key('rope.scaling.type')) ?? 'none'
  if (scaling !== 'none' && scaling !== 'linear') {
    throw new GgufError(`rope scaling ${scaling} is not served`)
  }
  if ((metadata.optionalNumber(key('expert_count')) ?? 0) > 0) {
    throw new GgufError('mixtures of experts are not served')
  }
  if (has('attn_logit_softcapping')) {
    throw new GgufError('a soft cap on attention scores is not served')
  }
  if (!(rmsEps > 0 && rmsEps < 1)) {
    throw new GgufError(`metadata ${key('attention.layer_norm_rms_epsilon')} is ${rmsEps}`)
  }
  return {
    family,
    numLayers,
    hidden,
    numHeads,
    numKvHeads,
    headDim,
    ffn,
    vocab,
    ropeBase: positive('rope.freq_base', DEFAULT_ROPE_BASE),
    ropeScale: scaling === 'linear' ? positive('rope.scaling.factor', 1) : 1,
    slidingWindow: readSlidingWindow(),
    attentionScale: family.attentionScale({ numLayers, hidden, numHeads, headDim }),
    logitSoftcap: has('final_logit_softcapping') ? positive('final_logit_softcapping', 1) : null,
    rmsEps,
    contextLength,
  }

  function readSlidingWindow(): SlidingWindow | null {
    const windowLen = metadata.optionalNumber(key('attention.sliding_window')) ?? 0
    const defaults = family!.slidingWindow
    if (defaults === null) {
      if (windowLen === 0) return null
      throw new GgufError(`a sliding window is not served for ${arch}`)
    }
    return {
      windowLen: count('attention.sliding_window', MAX_CONTEXT),
      period: has('attention.sliding_window_pattern')
        ? count('attention.sliding_window_pattern', MAX_LAYERS)
        : defaults.period,
      ropeBase: positive('rope.freq_base_swa', defaults.ropeBase),
    }
  }
}

/** Whether a layer attends only to a window. */
export function isWindowed({ slidingWindow }: ModelConfig, layer: number): boolean {
  return slidingWindow !== null && layer % slidingWindow.period < slidingWindow.period - 1
}

/** The angle by which rotary embedding turns a pair of q and k at a position. */
export function ropeAngle(
  { headDim, ropeBase, ropeScale, slidingWindow }: ModelConfig,
  windowed: boolean,
  position: number,
  pair: number,
): number {
  const base = windowed ? slidingWindow!.ropeBase : ropeBase
  return (position / (windowed ? 1 : ropeScale)) * base ** (-pair / (headDim / 2))
}

/** @throws {GgufError} a tensor that the graph would leave out, which would make its answers wrong */
export function checkTensorNames(
  { family, numLayers }: ModelConfig,
  names: Iterable<string>,
): void {
  const known = tensorNames(family, numLayers)
  for (const name of names) {
    if (!known.has(name)) {
      throw new GgufError(`tensor ${name} has no place in the graph of ${family.arch}`)
    }
  }
}
