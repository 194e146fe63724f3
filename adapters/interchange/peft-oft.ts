/*
 * Converts adapters of scope `all` to PEFT's OFT on `o_proj` with block size 2, and back.
 *
 * z is the input of o_proj, and an OFT block of size 2 is one pair of z. OFT holds one number q per
 * block and computes x·R with R = (I − Q)(I + Q)⁻¹, Q = [[0, q], [−q, 0]]. That rotates the pair of a
 * row vector by −2·atan q, so q = −tan(θ/2). No q rotates by half a turn.
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
    /** OFT cannot express the adapter: its scope is not `all`, or it has a scale or half a turn. */
    | 'not_expressible'
    /** The files are not a PEFT adapter, or one with another method, module or setting. */
    | 'unsupported_peft'
    /** The adapter is valid, but has another shape than the model. */
    | 'wrong_geometry'
  readonly message: string
}

const BLOCK_SIZE = 2
/** Radians. Nearer to half a turn, |q| exceeds 1e6 and the rounding of float32 angles decides its sign. */
const MIN_DISTANCE_FROM_HALF_TURN = 2e-6
/** Metadata key of the adapter's model digest; an import of an exported file checks it. */
const DIGEST_KEY = 'arcana_model_digest'
const TENSOR_NAME =
  /^base_model\.model\.(?:model\.)?layers\.(0|[1-9][0-9]{0,3})\.self_attn\.o_proj\.oft_R\.weight$/
const tensorName = (layer: number): string =>
  `base_model.model.model.layers.${layer}.self_attn.o_proj.oft_R.weight`

/**
 * Writes an adapter as the two files of a PEFT folder, for transformers models with Llama's layout.
 * Angles are taken modulo a turn, which is the same map at strength 1.
 * @param baseModel name of the base model in the config; PEFT uses it only to load the base itself
 * @returns `not_expressible` if OFT has no such adapter
 */
export function exportPeftOft(file: AdapterFile, baseModel: string): Result<PeftFiles, PeftError> {
  const { scope, rotation, modelDigest } = file
  const refuse = (message: string) => fail({ reason: 'not_expressible' as const, message })
  if (scope !== 'all') {
    return refuse(
      `its scope is "${scope}"; PEFT rotates every position, so the scope must be "all"`,
    )
  }
  if (rotation.layers.size === 0) return refuse('it rotates nothing')
  const layers = [...rotation.layers].sort(([a], [b]) => a - b)
  const tensors: FloatTensor[] = []
  for (const [layer, { angles, logScale }] of layers) {
    if (logScale?.some((value) => value !== 0)) {
      return refuse(`layer ${layer} has log scales, which OFT cannot express`)
    }
    const values = new Float32Array(angles.length)
    for (let i = 0; i < angles.length; i++) {
      const q = cayleyOfAngle(angles[i]!)
      if (q === null) {
        return refuse(
          `pair ${i} of layer ${layer} has the angle ${angles[i]!}, which is half a turn`,
        )
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
 * Reads the two files of a PEFT folder as an adapter of scope `all`, in float32.
 * @param model the base model to import for. PEFT stores no digest of its base; a file that
 * `exportPeftOft` wrote does, and that digest must be this model's
 * @returns `unsupported_peft` or `wrong_geometry` if the files do not make an adapter of the model
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
      return refuse(
        `tensor ${JSON.stringify(name.slice(0, 128))} is not the oft_R of a layer's o_proj`,
      )
    }
    if (layers.has(layer)) return refuse(`layer ${layer} has two tensors`)
    if (dims.length !== 2 || dims[1] !== 1) {
      return refuse(
        `layer ${layer} has shape [${dims.join(', ')}], not [blocks, 1] with block size 2`,
      )
    }
    if (layer >= geometry.numLayers || values.length !== pairsPerLayer(geometry)) {
      return fail({
        reason: 'wrong_geometry',
        message:
          `layer ${layer} with ${values.length} blocks does not fit a model with ` +
          `${geometry.numLayers} layers of ${pairsPerLayer(geometry)} pairs`,
      })
    }
    if (!values.every(Number.isFinite))
      return refuse(`layer ${layer} holds a value that is not finite`)
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

/** OFT's parameter q for a rotation by `angle` radians; null too near to half a turn, which has no q. */
export function cayleyOfAngle(angle: number): number | null {
  const wrapped = angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI))
  if (Math.PI - Math.abs(wrapped) < MIN_DISTANCE_FROM_HALF_TURN) return null
  return -Math.tan(wrapped / 2) + 0
}

/** The angle of OFT's parameter q. @returns radians, in ±π */
export const angleOfCayley = (q: number): number => -2 * Math.atan(q) + 0

/** Names the first setting under which PEFT would compute another map; null if there is none. */
function faultOfConfig(bytes: Uint8Array): string | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes))
  } catch {
    return 'is not JSON'
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    return 'is not an object'
  const config = parsed as Readonly<Record<string, unknown>>
  if (config.peft_type !== 'OFT') return `peft_type is not "OFT"`
  if (config.oft_block_size !== BLOCK_SIZE) {
    // If the block size is 0, PEFT uses the number of blocks, r.
    const r = config.r
    const isByBlocks = config.oft_block_size === 0 && Number.isInteger(r) && (r as number) > 0
    if (!isByBlocks) return `oft_block_size is not ${BLOCK_SIZE}`
  }
  if (config.use_cayley_neumann !== false) {
    return 'use_cayley_neumann is not false, and its series is not a rotation'
  }
  for (const name of ['coft', 'block_share', 'fan_in_fan_out'] as const) {
    if ((config[name] ?? false) !== false) return `${name} is not false`
  }
  if ((config.bias ?? 'none') !== 'none') return 'bias is not "none"'
  const saved = config.modules_to_save ?? []
  if (!Array.isArray(saved) || saved.length > 0) return 'modules_to_save is not empty'
  return null
}
