export { AFFINE_MAX_CODE, forEachAffineBlock, type AffineType } from './affine-blocks.ts'
export { dequantise, forEachQ5_0Block } from './dequantise.ts'
export { GgufError } from './errors.ts'
export { openGguf, type GgufFile, type GgufTensor } from './gguf-file.ts'
export { halfToFloatTable } from './half.ts'
export type { GgufMetadata } from './metadata.ts'
export {
  checkTensorNames,
  decodeModelConfig,
  isWindowed,
  ropeAngle,
  type ModelConfig,
} from './model-config.ts'
export type { TensorType } from './tensor-types.ts'
