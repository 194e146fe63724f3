import { fail, ok } from '../result.ts'
import {
  type AdapterDtype,
  type AdapterFileError,
  type AdapterFileReason,
  type AdapterFileResult,
  type AdapterScope,
  BYTES_PER_VALUE,
  DIGEST_PATTERN,
  FORMAT_NAME,
  FORMAT_VERSION,
  type TensorKind,
} from './schema.ts'
import { MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS } from './limits.ts'
import { parseStrictJson, type StrictJson } from './strict-json.ts'

/** One tensor as the header describes it; `begin` and `end` are bytes from the start of the data. */
export type TensorEntry = {
  readonly kind: TensorKind
  readonly layer: number
  readonly dtype: AdapterDtype
  readonly numHeads: number
  readonly numPairs: number
  readonly begin: number
  readonly end: number
}

export type Header = {
  readonly modelDigest: string
  readonly scope: AdapterScope
  readonly tensors: readonly TensorEntry[]
}

/** The layer number has no sign and no leading zero, so that each layer has one name. */
const TENSOR_NAME = /^(angles|log_scale)\.(0|[1-9][0-9]{0,3})$/
const METADATA_KEYS = ['format', 'format_version', 'model_digest', 'scope']
const TENSOR_KEYS = ['dtype', 'shape', 'data_offsets']
/** Messages show at most this much of a text from outside. */
const MAX_SHOWN_CHARS = 64

/** Parses the JSON header of an adapter file and checks each tensor; the caller checks them together. */
export function parseHeader(text: string): AdapterFileResult<Header> {
  // safetensors allows padding after the header, nothing before it.
  if (!text.startsWith('{')) return refuse('bad_header', 'the header does not begin with "{"')
  const parsed = parseStrictJson(text)
  if ('fault' in parsed)
    return refuse('bad_header', `the header is not valid JSON: ${parsed.fault}`)
  if (!isObject(parsed.value)) return refuse('bad_header', 'the header is not an object')
  const metadata = parseMetadata(parsed.value.get('__metadata__'))
  if (!metadata.ok) return metadata
  const tensors: TensorEntry[] = []
  for (const [name, entry] of parsed.value) {
    if (name === '__metadata__') continue
    const tensor = parseTensor(name, entry)
    if (!tensor.ok) return tensor
    tensors.push(tensor.value)
  }
  return ok({ ...metadata.value, tensors })
}

function parseMetadata(
  value: StrictJson | undefined,
): AdapterFileResult<Pick<Header, 'modelDigest' | 'scope'>> {
  if (value === undefined || !isObject(value))
    return refuse('bad_metadata', 'the header has no __metadata__')
  if (value.get('format') !== FORMAT_NAME) {
    return refuse('bad_metadata', `format is not "${FORMAT_NAME}"`)
  }
  const version = value.get('format_version')
  if (typeof version !== 'string') return refuse('bad_metadata', 'format_version is not a string')
  // Checked before unknown keys, because a later version may have new keys.
  if (version !== FORMAT_VERSION) {
    return refuse(
      'unsupported_version',
      `format_version is ${show(version)}, but this build reads "${FORMAT_VERSION}"`,
    )
  }
  const unknown = [...value.keys()].find((key) => !METADATA_KEYS.includes(key))
  if (unknown !== undefined)
    return refuse('bad_metadata', `the metadata key ${show(unknown)} is unknown`)
  const modelDigest = value.get('model_digest')
  if (typeof modelDigest !== 'string' || !DIGEST_PATTERN.test(modelDigest)) {
    return refuse('bad_metadata', 'model_digest is not a SHA-256 in lower-case hex')
  }
  const scope = value.get('scope')
  if (scope !== 'generated' && scope !== 'all') {
    return refuse('bad_metadata', 'scope is neither "generated" nor "all"')
  }
  return ok({ modelDigest, scope })
}

function parseTensor(name: string, entry: StrictJson): AdapterFileResult<TensorEntry> {
  const bad = (what: string): AdapterFileResult<never> =>
    refuse('bad_tensor', `tensor ${show(name)}: ${what}`)
  const match = TENSOR_NAME.exec(name)
  if (match === null) return bad('the name is neither angles.N nor log_scale.N')
  const kind = match[1] === 'angles' ? 'angles' : 'log_scale'
  const layer = Number(match[2])
  if (layer >= MAX_LAYERS) return bad(`the layer is not below ${MAX_LAYERS}`)
  if (!isObject(entry)) return bad('not an object')
  if (entry.size !== TENSOR_KEYS.length || !TENSOR_KEYS.every((key) => entry.has(key))) {
    return bad(`the keys are not ${TENSOR_KEYS.join(', ')}`)
  }
  const dtype = entry.get('dtype')
  if (dtype !== 'F16' && dtype !== 'F32') return bad('dtype is neither F16 nor F32')
  const shape = numberPair(entry.get('shape'))
  if (shape === null) return bad('shape is not [heads, pairs]')
  const [numHeads, numPairs] = shape
  if (numHeads < 1 || numHeads > MAX_HEADS || numPairs < 1 || numPairs > MAX_HEAD_DIM / 2) {
    return bad(
      `shape [${numHeads}, ${numPairs}] is outside [1, 1] to [${MAX_HEADS}, ${MAX_HEAD_DIM / 2}]`,
    )
  }
  const offsets = numberPair(entry.get('data_offsets'))
  if (offsets === null) return bad('data_offsets is not [begin, end]')
  const [begin, end] = offsets
  if (end - begin !== numHeads * numPairs * BYTES_PER_VALUE[dtype]) {
    return bad('data_offsets do not span the shape')
  }
  return ok({ kind, layer, dtype, numHeads, numPairs, begin, end })
}

/** A failure with its reason and a message for the user. */
export const refuse = (
  reason: AdapterFileReason,
  message: string,
): { readonly ok: false; readonly error: AdapterFileError } => fail({ reason, message })

const isObject = (value: StrictJson): value is ReadonlyMap<string, StrictJson> =>
  value instanceof Map

function numberPair(value: StrictJson | undefined): readonly [number, number] | null {
  if (!Array.isArray(value) || value.length !== 2) return null
  const [first, second] = value as readonly StrictJson[]
  return typeof first === 'number' && typeof second === 'number' ? [first, second] : null
}

const show = (text: string): string => JSON.stringify(text.slice(0, MAX_SHOWN_CHARS))
