import { float, int } from '../model.ts'
import { BLOCK_SIZE } from './block-quantise.ts'
import type { GraphBuilder } from './graph-builder.ts'
import type { SourceWeights } from './weights.ts'

/** Form of the matrices: `float32` is exact, `block` is quantised in blocks of a row. */
export type WeightFormat = 'float32' | 'block'

/**
 * MatMulNBits' accuracy level 4 quantises activations to 8 bit, each block of a row by itself. It is
 * fast, and a row's result does not depend on other rows.
 */
const ACCURACY_LEVEL_INT8 = 4

/**
 * y = x·Wᵀ for one or more matrices stacked along their rows, so that one kernel call serves all
 * consumers of x.
 * @param x value of shape [..., K]
 * @param sources GGUF tensors, each [rows, K]
 * @returns value of shape [..., sum of rows]
 */
export async function linear(
  graph: GraphBuilder,
  source: SourceWeights,
  format: WeightFormat,
  name: string,
  x: string,
  sources: readonly string[],
  inputSize: number,
): Promise<string> {
  const numRows = sources.reduce((sum, tensor) => sum + source.numRows(tensor), 0)
  if (format === 'float32') {
    const values = await source.stackedFloat32(sources)
    await graph.weight(`${name}.weight`, 'float32', [numRows, inputSize], values)
    return transposedMatMul(graph, name, x, `${name}.weight`)
  }
  if (inputSize % BLOCK_SIZE !== 0) {
    throw new Error(`${name}: input size ${inputSize} is not a multiple of ${BLOCK_SIZE}`)
  }
  const { bits, codes, scales } = await source.stackedQuantised(sources)
  const numBlocks = inputSize / BLOCK_SIZE
  const dims = [numRows, numBlocks, (BLOCK_SIZE * bits) / 8]
  await graph.weight(`${name}.codes`, 'uint8', dims, codes)
  await graph.weight(`${name}.scales`, 'float32', [numRows * numBlocks], scales)
  return quantisedMatMul(graph, name, x, { rows: numRows, inputSize, bits })
}

export function transposedMatMul(
  graph: GraphBuilder,
  name: string,
  x: string,
  weight: string,
): string {
  return graph.contrib('FusedMatMul', name, [x, weight], { transB: int(1), alpha: float(1) })
}

export function quantisedMatMul(
  graph: GraphBuilder,
  name: string,
  x: string,
  shape: { readonly rows: number; readonly inputSize: number; readonly bits: 4 | 8 },
): string {
  return graph.contrib('MatMulNBits', name, [x, `${name}.codes`, `${name}.scales`], {
    K: int(shape.inputSize),
    N: int(shape.rows),
    bits: int(shape.bits),
    block_size: int(BLOCK_SIZE),
    accuracy_level: int(ACCURACY_LEVEL_INT8),
  })
}
