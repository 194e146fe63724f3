import { int } from '../model.ts'
import type { GraphBuilder } from './graph-builder.ts'

/** Names of the rotation's graph inputs. */
export const ROTATION_POSITIONS = 'rotation_positions'
export const rotationCos = (layer: number): string => `rotation_cos.${layer}`
export const rotationSin = (layer: number): string => `rotation_sin.${layer}`

/**
 * Rotates z, the attention heads' outputs before the output projection, by adapters. One
 * RotaryEmbedding node does it, whose tables are graph inputs. Each (token, head) has a position
 * slot·heads + head in the tables, so one call rotates each row by its own adapter. Slot 0 is the
 * identity.
 * @param z value of shape [batch, sequence, heads·headDim]
 * @param shape value that holds this shape, to which the result is brought back
 */
export function rotation(
  graph: GraphBuilder,
  name: string,
  z: string,
  shape: string,
  layer: number,
  geometry: { readonly numHeads: number; readonly headDim: number },
): string {
  const { numHeads, headDim } = geometry
  const cos = graph.input(rotationCos(layer), 'float32', ['rotation_rows', headDim / 2])
  const sin = graph.input(rotationSin(layer), 'float32', ['rotation_rows', headDim / 2])
  const perHead = graph.int64('rotation.per_head', [-1, numHeads, headDim])
  const split = graph.op('Reshape', `${name}.split`, [z, perHead])
  // The interleaved form has adjacent pairs (2i, 2i+1). The tables hold r·cos and r·sin.
  const turned = graph.contrib(
    'RotaryEmbedding',
    `${name}.turned`,
    [split, ROTATION_POSITIONS, cos, sin],
    { interleaved: int(1) },
  )
  return graph.op('Reshape', `${name}.joined`, [turned, shape])
}
