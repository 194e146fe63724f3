import { ok } from '../result.ts'
import type { Geometry, LayerRotation } from '../rotation/rotation.ts'
import {
  type AdapterDtype,
  type AdapterFile,
  type AdapterFileResult,
  BYTES_PER_VALUE,
  EMPTY_GEOMETRY,
  PREFIX_BYTES,
} from './schema.ts'
import { fromFloat16Bits } from './float16.ts'
import { parseHeader, refuse, type TensorEntry } from './header.ts'
import { MAX_ABS_ANGLE, MAX_ABS_LOG_SCALE, MAX_ADAPTER_BYTES, MAX_HEADER_BYTES } from './limits.ts'

/**
 * Reads an adapter file from outside. It never throws, and allocates at most a small multiple of the
 * size of `bytes`.
 * @param geometry the base model's, which the tensors must fit. By default the geometry comes from the
 * file: the tensors' shape, and one layer more than the highest layer number (all zero for an empty
 * file).
 * @returns the adapter with values as float32 (float16 widens exactly), or the reason of the refusal
 */
export function decodeAdapter(
  bytes: Uint8Array,
  geometry?: Geometry,
): AdapterFileResult<AdapterFile> {
  if (bytes.length > MAX_ADAPTER_BYTES) {
    return refuse(
      'too_large',
      `the file has ${bytes.length} bytes; at most ${MAX_ADAPTER_BYTES} are allowed`,
    )
  }
  const text = readHeaderText(bytes)
  if (!text.ok) return text
  const header = parseHeader(text.value.json)
  if (!header.ok) return header
  const { modelDigest, scope, tensors } = header.value
  const data = bytes.subarray(text.value.dataAt)
  const fault = checkLayout(tensors, data.length) ?? checkTogether(tensors)
  if (fault !== null) return fault
  const own = ownGeometry(tensors)
  if (geometry !== undefined && tensors.length > 0 && !fits(own, geometry)) {
    return refuse(
      'wrong_geometry',
      `tensors of [${own.numHeads}, ${own.headDim / 2}] on at least ${own.numLayers} layers do not fit a ` +
        `model with [${geometry.numHeads}, ${geometry.headDim / 2}] and ${geometry.numLayers} layers`,
    )
  }
  const layers = readLayers(tensors, data)
  if (!layers.ok) return layers
  return ok({
    modelDigest,
    scope,
    dtype: tensors[0]?.dtype ?? 'F32',
    rotation: { geometry: geometry ?? own, layers: layers.value },
  })
}

function readHeaderText(
  bytes: Uint8Array,
): AdapterFileResult<{ readonly json: string; readonly dataAt: number }> {
  if (bytes.length < PREFIX_BYTES) {
    return refuse(
      'truncated',
      `the file has only ${bytes.length} bytes, too few for a header length`,
    )
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const headerLen = view.getBigUint64(0, true)
  if (headerLen > BigInt(MAX_HEADER_BYTES)) {
    return refuse(
      'bad_header',
      `the header has ${headerLen.toString()} bytes; at most ${MAX_HEADER_BYTES} are allowed`,
    )
  }
  const dataAt = PREFIX_BYTES + Number(headerLen)
  if (dataAt > bytes.length) return refuse('truncated', 'the file ends inside its header')
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    return ok({ json: decoder.decode(bytes.slice(PREFIX_BYTES, dataAt)), dataAt })
  } catch {
    return refuse('bad_header', 'the header is not UTF-8')
  }
}

/** Tensors must cover the data without gaps or overlaps. */
function checkLayout(
  tensors: readonly TensorEntry[],
  dataBytes: number,
): AdapterFileResult<never> | null {
  let expected = 0
  for (const { begin, end, kind, layer } of [...tensors].sort((a, b) => a.begin - b.begin)) {
    if (begin !== expected) {
      return refuse('bad_layout', `${kind}.${layer} begins at ${begin}, not at ${expected}`)
    }
    expected = end
  }
  if (expected > dataBytes) {
    return refuse(
      'truncated',
      `the file has ${dataBytes} bytes of data, but the header describes ${expected}`,
    )
  }
  if (expected < dataBytes) {
    return refuse('bad_layout', `${dataBytes - expected} bytes follow the last tensor`)
  }
  return null
}

/** All tensors must have one dtype and one shape, and no layer may have scales without angles. */
function checkTogether(tensors: readonly TensorEntry[]): AdapterFileResult<never> | null {
  const first = tensors[0]
  const withAngles = new Set<number>()
  for (const { kind, layer } of tensors) if (kind === 'angles') withAngles.add(layer)
  for (const { kind, layer, dtype, numHeads, numPairs } of tensors) {
    if (dtype !== first?.dtype) return refuse('bad_tensor', 'the tensors have different dtypes')
    if (numHeads !== first.numHeads || numPairs !== first.numPairs) {
      return refuse('bad_tensor', 'the tensors have different shapes')
    }
    if (kind === 'log_scale' && !withAngles.has(layer)) {
      return refuse('bad_tensor', `log_scale.${layer} has no angles.${layer}`)
    }
  }
  return null
}

function ownGeometry(tensors: readonly TensorEntry[]): Geometry {
  const first = tensors[0]
  if (first === undefined) return EMPTY_GEOMETRY
  return {
    numLayers: tensors.reduce((most, { layer }) => Math.max(most, layer + 1), 0),
    numHeads: first.numHeads,
    headDim: first.numPairs * 2,
  }
}

const fits = (own: Geometry, model: Geometry): boolean =>
  own.numHeads === model.numHeads &&
  own.headDim === model.headDim &&
  own.numLayers <= model.numLayers

function readLayers(
  tensors: readonly TensorEntry[],
  data: Uint8Array,
): AdapterFileResult<ReadonlyMap<number, LayerRotation>> {
  const layers = new Map<number, LayerRotation>()
  // Layers ascend, and a layer's angles come before its scales; the header may have any order.
  const ordered = [...tensors].sort(
    (a, b) => a.layer - b.layer || Number(a.kind === 'log_scale') - Number(b.kind === 'log_scale'),
  )
  for (const { kind, layer, dtype, begin, end } of ordered) {
    const values = readValues(data.subarray(begin, end), dtype)
    const maxAbs = kind === 'angles' ? MAX_ABS_ANGLE : MAX_ABS_LOG_SCALE
    // Negated, so that NaN is caught too.
    const bad = values.find((value) => !(Math.abs(value) <= maxAbs))
    if (bad !== undefined) {
      return refuse('bad_value', `${kind}.${layer} holds ${bad}, outside ±${maxAbs}`)
    }
    const before = layers.get(layer)
    layers.set(layer, before === undefined ? { angles: values } : { ...before, logScale: values })
  }
  return ok(layers)
}

function readValues(data: Uint8Array, dtype: AdapterDtype): Float32Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  const step = BYTES_PER_VALUE[dtype]
  const values = new Float32Array(data.length / step)
  for (let i = 0; i < values.length; i++) {
    values[i] =
      dtype === 'F16'
        ? fromFloat16Bits(view.getUint16(i * step, true))
        : view.getFloat32(i * step, true)
  }
  return values
}
