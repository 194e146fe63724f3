import fc from 'fast-check'
import {
  type Geometry,
  type LayerRotation,
  pairsPerLayer,
  type Rotation,
} from '../../adapters/rotation/rotation.ts'

/** A small model, so that properties draw whole layers. */
export const geometry: Geometry = { numLayers: 4, numHeads: 3, headDim: 4 }

const floats = (max: number): fc.Arbitrary<Float32Array> =>
  fc
    .array(fc.float({ min: -Math.fround(max), max: Math.fround(max), noNaN: true }), {
      minLength: pairsPerLayer(geometry),
      maxLength: pairsPerLayer(geometry),
    })
    .map((values) => Float32Array.from(values))

const layerRotations: fc.Arbitrary<LayerRotation> = fc.oneof(
  floats(3.2).map((angles) => ({ angles })),
  fc.record({ angles: floats(3.2), logScale: floats(1) }),
)

/** Rotations of `geometry` with any set of layers, in any order of insertion. */
export const rotations: fc.Arbitrary<Rotation> = fc
  .uniqueArray(fc.tuple(fc.nat(geometry.numLayers - 1), layerRotations), {
    selector: ([layer]) => layer,
  })
  .map((layers) => ({ geometry, layers: new Map(layers) }))
