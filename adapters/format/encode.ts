import { type LayerRotation, pairsPerLayer } from '../rotation/rotation.ts'
import {
  type AdapterDtype,
  type AdapterFile,
  BYTES_PER_VALUE,
  DIGEST_PATTERN,
  FORMAT_NAME,
  FORMAT_VERSION,
  PREFIX_BYTES,
  type TensorKind,
} from './schema.ts'
import { toFloat16Bits, fromFloat16Bits } from './float16.ts'
import {
  MAX_ABS_ANGLE,
  MAX_ABS_LOG_SCALE,
  MAX_ADAPTER_BYTES,
  MAX_HEAD_DIM,
  MAX_HEADS,
  MAX_LAYERS,
} from './limits.ts'

type Tensor = { readonly name: string; readonly values: Float32Array }

/** safetensors readers may map the data in place, so it starts at a multiple of 8 bytes. */
const DATA_ALIGNMENT = 8

/**
 * Writes an adapter as safetensors in canonical form: the same content gives the same bytes, and so
 * the same digest. Layers ascend, and `angles.N` comes before `log_scale.N`. Layers and scales that
 * round to zero in `dtype` are omitted. -0 is written as 0. Spaces pad the header.
 * @throws {RangeError} a value is not finite or out of bounds, a layer is outside the geometry, the
 * geometry or the size exceeds the format's limits, or the model digest is malformed
 */
export function encodeAdapter(file: AdapterFile): Uint8Array<ArrayBuffer> {
  checkFile(file)
  const { geometry, layers } = file.rotation
  const tensors = [...layers]
    .sort(([a], [b]) => a - b)
    .flatMap(([layer, rotation]) => layerTensors(layer, rotation, file))
  const tensorBytes = pairsPerLayer(geometry) * BYTES_PER_VALUE[file.dtype]
  const header = encodeHeader(file, tensors, tensorBytes)
  const dataAt = PREFIX_BYTES + header.length
  const totalBytes = dataAt + tensors.length * tensorBytes
  if (totalBytes > MAX_ADAPTER_BYTES) {
    throw new RangeError(
      `the adapter would have ${totalBytes} bytes; at most ${MAX_ADAPTER_BYTES} are allowed`,
    )
  }
  const bytes = new Uint8Array(totalBytes)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(header.length), true)
  bytes.set(header, PREFIX_BYTES)
  tensors.forEach(({ values }, i) => {
    writeValues(view, dataAt + i * tensorBytes, values, file.dtype)
  })
  return bytes
}

function checkFile({ modelDigest, rotation: { geometry, layers } }: AdapterFile): void {
  const { numLayers, numHeads, headDim } = geometry
  if (!DIGEST_PATTERN.test(modelDigest)) throw new RangeError('modelDigest is not a SHA-256 in hex')
  if (numLayers > MAX_LAYERS || numHeads > MAX_HEADS || headDim > MAX_HEAD_DIM) {
    throw new RangeError('the geometry exceeds the limits of the format')
  }
  for (const layer of layers.keys()) {
    if (!Number.isInteger(layer) || layer < 0 || layer >= numLayers) {
      throw new RangeError(`layer ${layer} is outside a model of ${numLayers} layers`)
    }
  }
}

function layerTensors(
  layer: number,
  { angles, logScale }: LayerRotation,
  { dtype, rotation: { geometry } }: AdapterFile,
): Tensor[] {
  const round = (kind: TensorKind, values: Float32Array, maxAbs: number): Tensor => {
    if (values.length !== pairsPerLayer(geometry)) {
      throw new RangeError(
        `${kind}.${layer} has ${values.length} values, not ${pairsPerLayer(geometry)}`,
      )
    }
    // Negated, so that NaN is caught too.
    const bad = values.find((value) => !(Math.abs(value) <= maxAbs))
    if (bad !== undefined) throw new RangeError(`${kind}.${layer} holds ${bad}, outside ±${maxAbs}`)
    return { name: `${kind}.${layer}`, values: values.map((value) => roundTo(dtype, value)) }
  }
  const angleTensor = round('angles', angles, MAX_ABS_ANGLE)
  const scaleTensor = logScale && round('log_scale', logScale, MAX_ABS_LOG_SCALE)
  if (scaleTensor && !isZero(scaleTensor)) return [angleTensor, scaleTensor]
  return isZero(angleTensor) ? [] : [angleTensor]
}

/** The stored value: rounded to the dtype; adding 0 turns -0 into +0. */
const roundTo = (dtype: AdapterDtype, value: number): number =>
  (dtype === 'F16' ? fromFloat16Bits(toFloat16Bits(value)) : value) + 0

const isZero = ({ values }: Tensor): boolean => values.every((value) => value === 0)

function encodeHeader(
  { modelDigest, scope, dtype, rotation: { geometry } }: AdapterFile,
  tensors: readonly Tensor[],
  tensorBytes: number,
): Uint8Array {
  const header: Record<string, unknown> = {
    __metadata__: {
      format: FORMAT_NAME,
      format_version: FORMAT_VERSION,
      model_digest: modelDigest,
      scope,
    },
  }
  tensors.forEach(({ name }, i) => {
    header[name] = {
      dtype,
      shape: [geometry.numHeads, geometry.headDim / 2],
      data_offsets: [i * tensorBytes, (i + 1) * tensorBytes],
    }
  })
  const json = JSON.stringify(header)
  const paddedLen = Math.ceil(json.length / DATA_ALIGNMENT) * DATA_ALIGNMENT
  return new TextEncoder().encode(json.padEnd(paddedLen))
}

function writeValues(view: DataView, at: number, values: Float32Array, dtype: AdapterDtype): void {
  const step = BYTES_PER_VALUE[dtype]
  values.forEach((value, i) => {
    if (dtype === 'F16') view.setUint16(at + i * step, toFloat16Bits(value), true)
    else view.setFloat32(at + i * step, value, true)
  })
}
