import type { Result } from '../result.ts'
import type { Geometry, Rotation } from '../rotation/rotation.ts'

/** The positions that an adapter rotates: from the last prompt token on, or all. */
export type AdapterScope = 'generated' | 'all'
export type AdapterDtype = 'F16' | 'F32'

/** The content of an adapter file. */
export type AdapterFile = {
  /** SHA-256, lower-case hex, of the base model's source file. */
  readonly modelDigest: string
  readonly scope: AdapterScope
  readonly rotation: Rotation
  /** Type of the stored values. */
  readonly dtype: AdapterDtype
}

export type AdapterFileReason =
  /** More bytes than MAX_ADAPTER_BYTES. */
  | 'too_large'
  /** The file ends before its header or its data does. */
  | 'truncated'
  /** The header is not the JSON of a safetensors file. */
  | 'bad_header'
  /** `__metadata__` is absent, incomplete, or has an unknown key or value. */
  | 'bad_metadata'
  /** This build does not read the file's format version. */
  | 'unsupported_version'
  /** A tensor's name, dtype or shape is invalid. */
  | 'bad_tensor'
  /** The tensors overlap, leave gaps or do not cover the data. */
  | 'bad_layout'
  /** A value is not finite or is out of bounds. */
  | 'bad_value'
  /** The file is valid, but has another shape than the model. */
  | 'wrong_geometry'

export type AdapterFileError = { readonly reason: AdapterFileReason; readonly message: string }
export type AdapterFileResult<T> = Result<T, AdapterFileError>

export const FORMAT_NAME = 'arcana-rotation'
export const FORMAT_VERSION = '1'
/** The bytes before the header hold its length as a little-endian uint64. */
export const PREFIX_BYTES = 8
export const DIGEST_PATTERN = /^[0-9a-f]{64}$/

export const BYTES_PER_VALUE: Readonly<Record<AdapterDtype, number>> = { F16: 2, F32: 4 }

/** The content of a tensor, and the first part of its name, as in `angles.12`. */
export type TensorKind = 'angles' | 'log_scale'

/** The geometry of a file that touches no layer, if the model's geometry is unknown. */
export const EMPTY_GEOMETRY: Geometry = { numLayers: 0, numHeads: 0, headDim: 0 }
