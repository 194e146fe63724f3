/*
 * Adapters of scope `all` as PEFT's OFT on `o_proj`, block size 2, and back.
 *
 * The rotation of z and the input side of o_proj are one place, and a block of two is one pair:
 * OFT holds a number q for it, and computes x·R with R = (I − Q)(I + Q)⁻¹, Q = [[0, q], [−q, 0]].
 * That turns a row vector's pair by −2·atan q, so q = −tan(θ/2). Half a turn has no q.
 * Source: github.com/huggingface/peft, src/peft/tuners/oft/layer.py (_cayley_batch, forward), 0.21
 */
import type { AdapterFile } from '../format/schema.ts'
import { fail, ok, type Result } from '../result.ts'
import { type Geometry, type LayerRotation, pairsPerLayer } from '../rotation/rotation.ts'
import { readFloatTensors, writeFloatTensors, type FloatTensor } from './safetensors.ts'

/** The files of a PEFT adapter folder, by the names PEFT reads. */
export const PEFT_CONFIG_FILE = 'adapter_config.json'
export const PEFT_WEIGHTS_FILE = 'adapter_model.safetensors'

export type PeftFiles = { readonly config: Uint8Array; readonly weights: Uint8Array }

export type PeftError = {
  readonly reason:
    /** An adapter that OFT cannot express: its scope, a scale, or an angle of half a turn. */
    | 'not_expressible'
    /** Files that are not a PEFT adapter, or one of another kind, place or setting. */
    | 'unsupported_peft'
    /** Sound, but of another shape than the model. */
    | 'wrong_geometry'
  readonly message: string
}

const BLOCK_SIZE = 2
/** Nearer than this to half a turn, radians, q is past 1e6 and float32 angles decide nothing. */
const MIN_DISTANCE_FROM_HALF_TURN = 2e-6
/** The adapter's own model digest, kept so that a file that comes back can be held against it. */
const DIGEST_KEY = 'arcana_model_digest'
const TENSOR_NAME =
  /^base_model\.model\.(?:model\.)?layers\.(0|[1-9][0-9]{0,3})\.self_attn\.o_proj\.oft_R\.weight$/
const tensorName = (layer: number): string =>
  `base_model.model.model.layers.${layer}.self_attn.o_proj.oft_R.weight`

/**
 * Writes an adapter as the two files of a PEFT folder, for transformers models of Llama's layout.
 * Angles count modulo a turn, which is the same map at strength 1.
 * @param baseModel what the config names as base; PEFT only looks at it to load the base itself
 */
export function exportPeftOft(file: AdapterFile, baseModel: string): Result<PeftFiles, PeftError> {
  const { scope, rotation, modelDigest } = file
  const refuse = (message: string) => fail({ reason: 'not_expressible' as const, message })
  if (scope !== 'all') {
    return refuse(
      `its scope is "${scope}"; PEFT rotates every position, which is the scope "all" only`,
    )
  }
  if (rotation.layers.size === 0) return refuse('it rotates nothing')
  const layers = [...rotation.layers].sort(([a], [b]) => a - b)
  const tensors: FloatTensor[] = []
  for (const [layer, { angles, logScale }] of layers) {
    if (logScale?.some((value) => value !== 0)) {
      return refuse(`layer ${layer} has log scales; OFT rotates only`)
    }
    const values = new Float32Array(angles.length)
    for (let i = 0; i < angles.length; i++) {
      const q = cayleyOfAngle(angles[i]!)
      if (q === null) {
        return refuse(`pair ${i} of layer ${layer} turns by ${angles[i]!}, which is half a turn`)
      }
      values[i] = q
    }
    tensors.push({ name: tensorName(layer), dims: [values.length, 1], values })
  }
  const config = {
    peft_type: 'OFT',
    base_model_name_or_path: baseModel,
    task_type: 'CAUSAL_LM',
    inference_mode: true,
    r: 0,
    oft_block_size: BLOCK_SIZE,
    module_dropout: 0,
    target_modules: ['o_proj'],
    layers_to_transform: layers.map(([layer]) => layer),
    layers_pattern: 'layers',
    fan_in_fan_out: false,
    bias: 'none',
    init_weights: true,
    modules_to_save: null,
    coft: false,
    eps: 6e-5,
    block_share: false,
    use_cayley_neumann: false,
    num_cayley_neumann_terms: 5,
  }
  return ok({
    config: new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`),
    weights: writeFloatTensors({ format: 'pt', [DIGEST_KEY]: modelDigest }, tensors),
  })
}

/**
 * Reads a PEFT folder's two files as an adapter of scope `all`, in float32.
 * @param model what the adapter is for: PEFT names no digest of its base. A file that Arcana wrote
 * does, and its digest must be this one
 */
export function importPeftOft(
  { config, weights }: PeftFiles,
  model: { readonly modelDigest: string; readonly geometry: Geometry },
): Result<AdapterFile, PeftError> {
  const refuse = (message: string) => fail({ reason: 'unsupported_peft' as const, message })
  const configFault = faultOfConfig(config)
  if (configFault !== null) return refuse(`${PEFT_CONFIG_FILE}: ${configFault}`)
  const read = readFloatTensors(weights)
  if ('fault' in read) return refuse(`${PEFT_WEIGHTS_FILE}: ${read.fault}`)
  const digest = read.metadata.get(DIGEST_KEY)
  if (digest !== undefined && digest !== model.modelDigest) {
    return refuse(`it was learnt on base model ${digest.slice(0, 64)}, not ${model.modelDigest}`)
  }
  const { geometry } = model
  const layers = new Map<number, LayerRotation>()
  for (const { name, dims, values } of read.tensors) {
    const layer = Number(TENSOR_NAME.exec(name)?.[1] ?? NaN)
    if (Number.isNaN(layer)) {
      return refuse(`tensor ${JSON.stringify(name.slice(0, 128))} is not o_proj's oft_R of a layer`)
    }
    if (layers.has(layer)) return refuse(`layer ${layer} has two tensors`)
    if (dims.length !== 2 || dims[1] !== 1) {
      return refuse(
        `layer ${layer} has shape [${dims.join(', ')}], not [blocks, 1] of block size 2`,
      )
    }
    if (layer >= geometry.numLayers || values.length !== pairsPerLayer(geometry)) {
      return fail({
        reason: 'wrong_geometry',
        message:
          `layer ${layer} with ${values.length} blocks does not fit a model of ` +
          `${geometry.numLayers} layers with ${pairsPerLayer(geometry)} pairs`,
      })
    }
    if (!values.every(Number.isFinite)) return refuse(`layer ${layer} holds a value not finite`)
    layers.set(layer, { angles: values.map(angleOfCayley) })
  }
  if (layers.size === 0) return refuse(`${PEFT_WEIGHTS_FILE} holds no tensor`)
  const ascending = new Map([...layers].sort(([a], [b]) => a - b))
  return ok({
    modelDigest: model.modelDigest,
    scope: 'all',
    dtype: 'F32',
    rotation: { geometry, layers: ascending },
  })
}

/** q of a rotation by `angle` radians; null within a hair of half a turn, where there is none. */
export function cayleyOfAngle(angle: number): number | null {
  const wrapped = angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI))
  if (Math.PI - Math.abs(wrapped) < MIN_DISTANCE_FROM_HALF_TURN) return null
  return -Math.tan(wrapped / 2) + 0
}

/** @returns radians, in ±π */
export const angleOfCayley = (q: number): number => -2 * Math.atan(q) + 0

/** What PEFT would do otherwise than this map, by the setting's name; null where nothing. */
function faultOfConfig(bytes: Uint8Array): string | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes))
  } catch {
    return 'is no JSON'
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return 'is no object'
  const config = parsed as Readonly<Record<string, unknown>>
  if (config.peft_type !== 'OFT') return `peft_type is not "OFT"`
  if (config.oft_block_size !== BLOCK_SIZE) {
    // PEFT takes the number of blocks instead where the size is 0.
    const r = config.r
    const isByBlocks = config.oft_block_size === 0 && Number.isInteger(r) && (r as number) > 0
    if (!isByBlocks) return `oft_block_size is not ${BLOCK_SIZE}`
  }
  if (config.use_cayley_neumann !== false) {
    return 'use_cayley_neumann is not false: its series is no rotation'
  }
  for (const name of ['coft', 'block_share', 'fan_in_fan_out'] as const) {
    if ((config[name] ?? false) !== false) return `${name} is not false`
  }
  if ((config.bias ?? 'none') !== 'none') return 'bias is not "none"'
  const saved = config.modules_to_save ?? []
  if (!Array.isArray(saved) || saved.length > 0) return 'modules_to_save is not empty'
  return null
}
