import { type Geometry, pairsPerLayer } from '../../rotation/rotation.ts'

/**
 * Splits examples into the groups whose mean gradients span a search. With at most `maxGroups` examples
 * each is its own group; otherwise the groups have about equal sizes, in the order of the labels.
 * @param gold label of each example
 * @returns indices of each group's examples; every example is in one group
 */
export function groupExamples(gold: readonly number[], maxGroups: number): number[][] {
  const order = gold.map((_, example) => example).sort((a, b) => gold[a]! - gold[b]! || a - b)
  const numGroups = Math.min(maxGroups, order.length)
  return Array.from({ length: numGroups }, (_, group) =>
    order.slice(
      Math.floor((group * order.length) / numGroups),
      Math.floor(((group + 1) * order.length) / numGroups),
    ),
  )
}

/** Encodes directions one after another as float32, little-endian. */
export function encodeDirections(directions: readonly Float32Array[]): Uint8Array<ArrayBuffer> {
  const length = directions.reduce((sum, direction) => sum + direction.length, 0)
  const values = new Float32Array(length)
  let at = 0
  for (const direction of directions) {
    values.set(direction, at)
    at += direction.length
  }
  return new Uint8Array(values.buffer)
}

/**
 * Reads the output of `encodeDirections`.
 * @param numLayers number of layers that a direction spans
 * @throws {RangeError} the bytes are not whole directions
 */
export function decodeDirections(
  bytes: Uint8Array,
  geometry: Geometry,
  numLayers: number,
): Float32Array[] {
  const numAngles = numLayers * pairsPerLayer(geometry)
  const size = numAngles * Float32Array.BYTES_PER_ELEMENT
  if (bytes.byteLength === 0 || bytes.byteLength % size !== 0) {
    throw new RangeError(`${bytes.byteLength} bytes are not directions of ${numAngles} angles`)
  }
  const values = new Float32Array(bytes.slice().buffer)
  return Array.from({ length: bytes.byteLength / size }, (_, k) =>
    values.slice(k * numAngles, (k + 1) * numAngles),
  )
}
