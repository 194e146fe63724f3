import { describe, test } from 'vitest'
import { dequantise } from '../../../gpu-runner/model/gguf/index.ts'
import {
  BLOCK_SIZE,
  quantise8,
  requantiseAffine,
  requantiseQ4_0,
  requantiseQ5_0,
  requantiseQ8_0,
  type QuantisedMatrix,
} from '../../../gpu-runner/onnx/serving/block-quantise.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'

/** Dequantises a block as MatMulNBits does: (code − 2^(bits−1))·scale. */
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
  test('Q4_0, Q5_0 and Q8_0 convert exactly', ({ expect }) => {
    const q4 = randomBlocks(9, 18)
    expect(valuesOf(requantiseQ4_0(q4))).toEqual([...dequantise('Q4_0', q4, 9 * BLOCK_SIZE)])
    const q5 = randomBlocks(9, 22)
    const five = valuesOf(requantiseQ5_0(q5, 9 * BLOCK_SIZE))
    expect(five).toEqual([...dequantise('Q5_0', q5, 9 * BLOCK_SIZE)])
    const q8 = randomBlocks(9, 34)
    expect(valuesOf(requantiseQ8_0(q8))).toEqual([...dequantise('Q8_0', q8, 9 * BLOCK_SIZE)])
  })

  test('Q4_1 keeps its steps, and shifts a block by less than rounding would', ({ expect }) => {
    const numBlocks = 400
    const bytes = randomBlocks(numBlocks, 20)
    const view = new DataView(bytes.buffer)
    const random = createRng(7)
    for (let block = 0; block < numBlocks; block++) {
      // Steps near 0.07, minima from −0.8 to −0.3: the shape of a real matrix's blocks.
      view.setUint16(block * 20 + 2, 0xb4c0 + Math.floor(random() * 0x5a0), true)
      view.setUint16(block * 20, 0x2c00 + Math.floor(random() * 0x100), true)
    }
    const exact = dequantise('Q4_1', bytes, numBlocks * BLOCK_SIZE)
    const restored = valuesOf(requantiseAffine('Q4_1', bytes, numBlocks * BLOCK_SIZE))
    const rounded = valuesOf(quantise8(exact))
    let squared = 0
    let squaredByRounding = 0
    for (const [i, value] of exact.entries()) {
      const error = restored[i]! - value
      // All weights of a block differ by the same amount.
      const first = i - (i % BLOCK_SIZE)
      expect(Math.abs(error - (restored[first]! - exact[first]!))).toBeLessThan(1e-6)
      squared += error ** 2
      squaredByRounding += (rounded[i]! - value) ** 2
    }
    expect(Math.sqrt(squared)).toBeLessThan(0.7 * Math.sqrt(squaredByRounding))
  })

  test.for([
    ['Q4_K', 144],
    ['Q5_K', 176],
  ] as const)('%s keeps the steps of its runs', ([type, blockBytes], { expect }) => {
    const numWeights = 50 * 256
    const bytes = randomBlocks(50, blockBytes)
    const view = new DataView(bytes.buffer)
    for (let block = 0; block < 50; block++) {
      // Scales of the minima near those of the steps, so that most runs fit a grid.
      view.setUint16(block * blockBytes + 2, 0x2e00 + block * 11, true)
    }
    const exact = dequantise(type, bytes, numWeights)
    const restored = valuesOf(requantiseAffine(type, bytes, numWeights))
    const rounded = valuesOf(quantise8(exact))
    let numShifted = 0
    for (let at = 0; at < numWeights; at += BLOCK_SIZE) {
      const errorsOf = (values: readonly number[]): number[] =>
        values.slice(at, at + BLOCK_SIZE).map((value, i) => value - exact[at + i]!)
      const squared = (errors: readonly number[]): number =>
        errors.reduce((sum, error) => sum + error ** 2, 0)
      const errors = errorsOf(restored)
      if (Math.max(...errors) - Math.min(...errors) < 1e-6) numShifted++
      expect(squared(errors)).toBeLessThanOrEqual(squared(errorsOf(rounded)) + 1e-10)
    }
    expect(numShifted).toBeGreaterThan((0.5 * numWeights) / BLOCK_SIZE)
  })

  test('a Q4_1 block that fits no grid is rounded instead', ({ expect }) => {
    const bytes = new Uint8Array(40).fill(0xff)
    const view = new DataView(bytes.buffer)
    // A step of 0, and a minimum far above the step.
    view.setUint16(0, 0x0000, true)
    view.setUint16(2, 0x3c00, true)
    view.setUint16(20, 0x2000, true)
    view.setUint16(22, 0x4400, true)
    const exact = dequantise('Q4_1', bytes, 64)
    for (const [i, value] of valuesOf(requantiseAffine('Q4_1', bytes, 64)).entries()) {
      expect(Math.abs(value - exact[i]!)).toBeLessThan(exact[i]! / 250)
    }
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
