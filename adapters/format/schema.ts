import type { Result } from '../result.ts'
import type { Geometry, Rotation } from '../rotation/rotation.ts'

/** Which positions an adapter rotates: from the last prompt token on, or all (DESIGN §1). */
export type AdapterScope = 'generated' | 'all'
export type AdapterDtype = 'F16' | 'F32'

/** What an adapter file says. */
export type AdapterFile = {
  /** SHA-256, lower-case hex, of the base model's source file. */
  readonly modelDigest: string
  readonly scope: AdapterScope
  readonly rotation: Rotation
  /** How the values are stored. */
  readonly dtype: AdapterDtype
}

export type AdapterFileReason =
  /** More bytes than MAX_ADAPTER_BYTES. */
  | 'too_large'
  /** The file ends before its header or its data does. */
  | 'truncated'
  /** The header is not the JSON of a safetensors file. */
  | 'bad_header'
  /** `__metadata__` is absent, incomplete, or says something unknown. */
  | 'bad_metadata'
  /** An adapter of a format version that this build does not read. */
  | 'unsupported_version'
  /** A tensor's name, dtype or shape. */
  | 'bad_tensor'
  /** Tensors that overlap, leave gaps or do not cover the data. */
  | 'bad_layout'
  /** A value that is not finite or is out of bounds. */
  | 'bad_value'
  /** Sound, but of another shape than the model. */
  | 'wrong_geometry'

export type AdapterFileError = { readonly reason: AdapterFileReason; readonly message: string }
export type AdapterFileResult<T> = Result<T, AdapterFileError>

export const FORMAT_NAME = 'arcana-rotation'
export const FORMAT_VERSION = '1'
/** Bytes before the header: its length as a little-endian uint64. */
export const PREFIX_BYTES = 8
export const DIGEST_PATTERN = /^[0-9a-f]{64}$/

export const BYTES_PER_VALUE: Readonly<Record<AdapterDtype, number>> = { F16: 2, F32: 4 }

/** What a tensor holds; also the first part of its name, as in `angles.12`. */
export type TensorKind = 'angles' | 'log_scale'

/** The geometry of a file that touches no layer, read without knowing the model. */
export const EMPTY_GEOMETRY: Geometry = { numLayers: 0, numHeads: 0, headDim: 0 }
