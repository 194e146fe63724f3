import { describe, test } from 'vitest'
import { dequantise } from '../../../gpu-runner/model/gguf/index.ts'
import {
  BLOCK_SIZE,
  quantise8,
  requantiseQ4_0,
  requantiseQ8_0,
  type QuantisedMatrix,
} from '../../../gpu-runner/onnx/build/block-quantise.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'

/** What MatMulNBits makes of a block: (code − 2^(bits−1))·scale. */
function valuesOf({ bits, codes, scales }: QuantisedMatrix): number[] {
  return Array.from({ length: scales.length * BLOCK_SIZE }, (_, i) => {
    const code = bits === 8 ? codes[i]! : (codes[i >> 1]! >> (4 * (i & 1))) & 15
    return (code - 2 ** (bits - 1)) * scales[Math.floor(i / BLOCK_SIZE)]!
  })
}

/** Blocks of random codes under a float16 scale of a few bits. */
function randomBlocks(numBlocks: number, blockBytes: number): Uint8Array {
  const random = createRng(5)
  const bytes = Uint8Array.from({ length: numBlocks * blockBytes }, () => random() * 256)
  const view = new DataView(bytes.buffer)
  for (let block = 0; block < numBlocks; block++) {
    view.setUint16(block * blockBytes, 0x2c00 + block * 37, true)
  }
  return bytes
}

describe('block weights', () => {
  test('Q4_0 and Q8_0 mean the same numbers after conversion', ({ expect }) => {
    const q4 = randomBlocks(9, 18)
    expect(valuesOf(requantiseQ4_0(q4))).toEqual([...dequantise('Q4_0', q4, 9 * BLOCK_SIZE)])
    const q8 = randomBlocks(9, 34)
    expect(valuesOf(requantiseQ8_0(q8))).toEqual([...dequantise('Q8_0', q8, 9 * BLOCK_SIZE)])
  })

  test('floats become 8 bit to within half a step of their block', ({ expect }) => {
    const random = createRng(6)
    const values = Float32Array.from({ length: 20 * BLOCK_SIZE }, () => random() - 0.3)
    values.fill(0, 0, BLOCK_SIZE)
    const restored = valuesOf(quantise8(values))
    for (let block = 0; block < 20; block++) {
      const slice = values.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
      const step = slice.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / 127
      for (const [i, value] of slice.entries()) {
        expect(Math.abs(restored[block * BLOCK_SIZE + i]! - value)).toBeLessThanOrEqual(
          0.5 * step * (1 + 1e-5),
        )
      }
    }
  })
})
