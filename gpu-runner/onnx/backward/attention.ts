import { isWindowed, type ModelConfig } from '../../model/gguf/index.ts'
import { pastKey, pastValue } from '../serving/decoder.ts'
import { rotationCos } from '../serving/rotation.ts'
import { float, int, ints } from '../model.ts'
import type { Dims, ShapedGraph } from './shaped-graph.ts'

/** Names of the training graph's inputs for tokens, rotary angles and attention masks. */
export const TOKEN_IDS = 'token_ids'
export const ROPE_COS = 'rope_cos'
export const ROPE_SIN = 'rope_sin'
export const PAST_MASK = 'past_mask'
export const SELF_MASK = 'self_mask'
/** Names of the rotary and mask inputs that layers with a sliding window read. */
export const windowed = (input: string): string => `${input}.windowed`

/** Names of the sizes that vary between runs. */
export const B = 'batch'
export const C = 'candidates'
export const P = 'positions'
export const S = 'capacity'
/** Name of the joint dim of these, along which the rows of one matrix product lie. */
const ROWS = 'candidates·positions·group'

/** Values that hold shapes with sizes known only in a run; each is made once. */
export type AttentionShapes = {
  /** [1, C, 1, 1] */
  readonly perCandidate: string
  /** [B, kvHeads, C, P, group, S], for scores on the prompt */
  readonly pastScores: string
  /** [B, kvHeads, C, P, group, P], for scores among the positions */
  readonly selfScores: string
  /** [B, kvHeads, −1, S] */
  readonly pastRows: string
  /** [B, kvHeads, C, −1, P] */
  readonly selfRows: string
  /** [B, kvHeads, C, P, group, headDim] */
  readonly heads: string
  /** [S, P] */
  readonly keySplit: string
}

export function attentionShapes(graph: ShapedGraph, config: ModelConfig): AttentionShapes {
  const { numHeads, numKvHeads, headDim } = config
  const size = (value: string, axis: number): string =>
    graph.op('Shape', [value], [1], { start: int(axis), end: int(axis + 1) })
  const [b, p] = [size(TOKEN_IDS, 0), size(TOKEN_IDS, 1)]
  const [c, s] = [size(rotationCos(0), 0), size(pastKey(0), 2)]
  const join = (...parts: (string | number)[]): string =>
    graph.op(
      'Concat',
      parts.map((part) => (typeof part === 'number' ? graph.int64([part]) : part)),
      [parts.length],
      { axis: int(0) },
    )
  const group = numHeads / numKvHeads
  return {
    perCandidate: join(1, c, 1, 1),
    pastScores: join(b, numKvHeads, c, p, group, s),
    selfScores: join(b, numKvHeads, c, p, group, p),
    pastRows: join(b, numKvHeads, -1, s),
    selfRows: join(b, numKvHeads, c, -1, p),
    heads: join(b, numKvHeads, c, p, group, headDim),
    keySplit: join(s, p),
  }
}

/**
 * Attention of the rotated positions over the frozen prompt and one another.
 * @param qkv [B, C, P, (heads + 2·kvHeads)·headDim]
 * @returns z, [B, C, P, heads, headDim]
 */
export function attention(
  graph: ShapedGraph,
  config: ModelConfig,
  shapes: AttentionShapes,
  ropeTurn: string,
  normHead: (value: string, part: 'q' | 'k') => string,
  layer: number,
  qkv: string,
): string {
  const { numHeads, numKvHeads, headDim } = config
  const group = numHeads / numKvHeads
  const numRoped = numHeads + numKvHeads
  const scale = float(config.attentionScale)
  const inputOf = (name: string): string => (isWindowed(config, layer) ? windowed(name) : name)
  const headSplit = (): string => graph.int64([numHeads, numKvHeads])
  const headDims: Dims[] = [
    [B, C, P, numHeads, headDim],
    [B, C, P, numKvHeads, headDim],
  ]
  const [qk, vFlat] = graph.split(
    'Split',
    [qkv, graph.int64([numRoped * headDim, numKvHeads * headDim])],
    [
      [B, C, P, numRoped * headDim],
      [B, C, P, numKvHeads * headDim],
    ],
    { axis: int(-1) },
  )
  const perHead = graph.op(
    'Reshape',
    [qk!, graph.int64([0, 0, 0, numRoped, headDim])],
    [B, C, P, numRoped, headDim],
  )
  const normalise = (): string => {
    const [q, k] = graph.split('Split', [perHead, headSplit()], headDims, { axis: int(3) })
    return graph.op('Concat', [normHead(q!, 'q'), normHead(k!, 'k')], graph.dimsOf(perHead), {
      axis: int(3),
    })
  }
  const normalised = config.family.hasQkNorm ? normalise() : perHead
  // Cached keys are normalised and have their rotary embedding.
  const roped = multiplyPairs(graph, ropeTurn, normalised, inputOf(ROPE_COS), inputOf(ROPE_SIN))
  const [qHeads, kHeads] = graph.split('Split', [roped, headSplit()], headDims, { axis: int(3) })
  const vHeads = graph.op(
    'Reshape',
    [vFlat!, graph.int64([0, 0, 0, numKvHeads, headDim])],
    [B, C, P, numKvHeads, headDim],
  )
  const toKvMajor = (value: string): string =>
    graph.op('Transpose', [value], [B, numKvHeads, C, P, headDim], { perm: ints(0, 3, 1, 2, 4) })
  const k = toKvMajor(kHeads!)
  const v = toKvMajor(vHeads)
  const grouped = graph.op(
    'Reshape',
    [qHeads!, graph.int64([0, 0, 0, numKvHeads, group, headDim])],
    [B, C, P, numKvHeads, group, headDim],
  )
  const q = graph.op('Transpose', [grouped], [B, numKvHeads, C, P, group, headDim], {
    perm: ints(0, 3, 1, 2, 4, 5),
  })

  const selfRows = `${P}·group`
  const pastQ = graph.op(
    'Reshape',
    [q, graph.int64([0, 0, -1, headDim])],
    [B, numKvHeads, ROWS, headDim],
  )
  const pastProduct = graph.op('FusedMatMul', [pastQ, pastKey(layer)], [B, numKvHeads, ROWS, S], {
    transB: int(1),
    alpha: scale,
  })
  const pastScores = graph.op(
    'Reshape',
    [pastProduct, shapes.pastScores],
    [B, numKvHeads, C, P, group, S],
  )
  const selfQ = graph.op(
    'Reshape',
    [q, graph.int64([0, 0, 0, -1, headDim])],
    [B, numKvHeads, C, selfRows, headDim],
  )
  const selfProduct = graph.op('FusedMatMul', [selfQ, k], [B, numKvHeads, C, selfRows, P], {
    transB: int(1),
    alpha: scale,
  })
  const selfScores = graph.op(
    'Reshape',
    [selfProduct, shapes.selfScores],
    [B, numKvHeads, C, P, group, P],
  )
  const scores = graph.op(
    'Concat',
    [
      graph.op('Add', [pastScores, inputOf(PAST_MASK)], graph.dimsOf(pastScores)),
      graph.op('Add', [selfScores, inputOf(SELF_MASK)], graph.dimsOf(selfScores)),
    ],
    [B, numKvHeads, C, P, group, `${S}+${P}`],
    { axis: int(-1) },
  )
  const probabilities = graph.op('Softmax', [scores], graph.dimsOf(scores), { axis: int(-1) })
  const [onPast, onSelf] = graph.split(
    'Split',
    [probabilities, shapes.keySplit],
    [graph.dimsOf(pastScores), graph.dimsOf(selfScores)],
    { axis: int(-1) },
  )
  const pastZ = graph.op(
    'FusedMatMul',
    [graph.op('Reshape', [onPast!, shapes.pastRows], [B, numKvHeads, ROWS, S]), pastValue(layer)],
    [B, numKvHeads, ROWS, headDim],
    { alpha: float(1) },
  )
  const selfZ = graph.op(
    'FusedMatMul',
    [graph.op('Reshape', [onSelf!, shapes.selfRows], [B, numKvHeads, C, selfRows, P]), v],
    [B, numKvHeads, C, selfRows, headDim],
    { alpha: float(1) },
  )
  const toHeads = (value: string): string =>
    graph.op('Reshape', [value, shapes.heads], [B, numKvHeads, C, P, group, headDim])
  const sum = graph.op(
    'Add',
    [toHeads(pastZ), toHeads(selfZ)],
    [B, numKvHeads, C, P, group, headDim],
  )
  const ordered = graph.op('Transpose', [sum], [B, C, P, numKvHeads, group, headDim], {
    perm: ints(0, 2, 3, 1, 4, 5),
  })
  return graph.op(
    'Reshape',
    [ordered, graph.int64([0, 0, 0, numHeads, headDim])],
    [B, C, P, numHeads, headDim],
  )
}

/**
 * The matrix that turns each pair (a, b) of a row by a quarter, to (−b, a); exact in float32. A pair
 * is two neighbours, or a value of the row's first half and its counterpart in the second.
 */
export function quarterTurn(
  graph: ShapedGraph,
  headDim: number,
  pairs: ModelConfig['family']['ropePairs'],
): string {
  const values = new Float32Array(headDim * headDim)
  const distance = pairs === 'adjacent' ? 1 : headDim / 2
  for (let pair = 0; pair < headDim / 2; pair++) {
    const first = pairs === 'adjacent' ? 2 * pair : pair
    const second = first + distance
    values[first * headDim + second] = 1
    values[second * headDim + first] = -1
  }
  const name = pairs === 'adjacent' ? 'quarter_turn' : `quarter_turn.${pairs}`
  return graph.float32(name, [headDim, headDim], values)
}

/**
 * Multiplies each pair by c + i·s: x ⊙ c + (x turned by a quarter) ⊙ s.
 * @param x [B, C, P, heads, headDim]
 * @param cos broadcast to x, with each pair's value twice; `sin` likewise
 */
export function multiplyPairs(
  graph: ShapedGraph,
  turn: string,
  x: string,
  cos: string,
  sin: string,
): string {
  const dims = graph.dimsOf(x)
  const turned = graph.op('FusedMatMul', [x, turn], dims, { alpha: float(1) })
  const along = graph.op('Mul', [x, withRank(graph, cos, dims.length)], dims)
  const across = graph.op('Mul', [turned, withRank(graph, sin, dims.length)], dims)
  return graph.op('Add', [along, across], dims)
}

/** Puts 1s before a value's dims, so that broadcasting it keeps its rank. */
function withRank(graph: ShapedGraph, value: string, rank: number): string {
  const dims = graph.dimsOf(value)
  if (dims.length === rank) return value
  const shape = graph.op(
    'Concat',
    [
      graph.int64(new Array<number>(rank - dims.length).fill(1)),
      graph.op('Shape', [value], [dims.length]),
    ],
    [rank],
    { axis: int(0) },
  )
  return graph.op(
    'Reshape',
    [value, shape],
    [...new Array<number>(rank - dims.length).fill(1), ...dims],
  )
}
