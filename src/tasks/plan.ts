import type { GenerationPlan } from '../dispatch/generate.ts'
import { digestOfBias, type ExpectedProof } from '../dispatch/proof.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import type { TokenShaping } from '../protocol/openai/sampling.ts'
import type { Arm, GenerateRequest } from '../protocol/runner.ts'
import { baseArm, expectedLayers, type ResolvedSelection } from './compose.ts'
import type { Urgency } from '../dispatch/urgency.ts'

/**
 * The labels of which an answer must be one; null for free text.
 * @param header `x-arcana-choice`: "off" lets a task that has labels answer in free text
 * @throws {ApiError} 400 naming the header
 */
export function readChoice(
  header: string | undefined,
  selection: ResolvedSelection | null,
): readonly string[] | null {
  if (header === 'off') return null
  if (header === undefined || header === 'on') return selection?.labels ?? null
  throw invalidRequest('x-arcana-choice must be "on" or "off".', 'x-arcana-choice')
}

/** One arm of a request, before a runner is chosen. A null selection means the base model. */
export type PlannedArm = {
  readonly selection: ResolvedSelection | null
  readonly arm: Arm
  readonly expected: ExpectedProof
}

/**
 * @param labels the answer must be one of these; null for free text. They set the order of the
 * selection's bias, which free text does not have.
 * @param rotateFrom the first token of a given prompt that is rotated
 */
export async function planArm(
  selection: ResolvedSelection | null,
  labels: readonly string[] | null,
  seed: number | undefined,
  rotateFrom?: number,
): Promise<PlannedArm> {
  const { bias: ownBias, ...own } = selection === null ? baseArm() : selection.arm
  const bias = labels === null ? undefined : inOrderOf(labels, selection?.labels ?? null, ownBias)
  const arm: Arm = {
    ...own,
    ...(bias === undefined ? {} : { bias }),
    ...(seed === undefined ? {} : { seed }),
    ...(rotateFrom === undefined ? {} : { rotate_from: rotateFrom }),
  }
  const { layers, exact } = expectedLayers(arm, selection?.terms ?? [])
  return {
    selection,
    arm,
    expected: {
      arm,
      modelDigest: selection?.modelDigest ?? null,
      biasDigest: bias === undefined ? null : await digestOfBias(bias),
      layers,
      layersExact: exact,
    },
  }
}

function inOrderOf(
  labels: readonly string[],
  own: readonly string[] | null,
  bias: readonly number[] | undefined,
): number[] | undefined {
  if (bias === undefined || own === null) return undefined
  return labels.map((label) => bias[own.indexOf(label)] ?? 0)
}

export type Sampling = {
  readonly maxTokens: number | undefined
  readonly temperature: number | undefined
  readonly topP: number
  readonly stop: readonly string[]
  readonly shaping?: TokenShaping
  readonly responseFormat?: GenerateRequest['response_format']
  readonly tools?: GenerateRequest['tools']
}

/** OpenAI's default for free text. A choice of labels answers with the likeliest. */
const DEFAULT_TEMPERATURE = 1
const DEFAULT_CHOICE_TEMPERATURE = 0

/** Fields that shape free text, and have no meaning where the answer is one of a task's labels. */
const FREE_TEXT_FIELDS = [
  'logit_bias',
  'presence_penalty',
  'frequency_penalty',
  'repetition_penalty',
] as const

/** @throws {ApiError} 400 naming a field that has no meaning for a choice of labels */
export function planGeneration(options: {
  readonly requestId: string
  readonly projectId: string
  readonly model: string
  readonly input: Pick<GenerateRequest, 'messages' | 'prompt' | 'echo'>
  readonly arms: readonly PlannedArm[]
  readonly labels: readonly string[] | null
  readonly sampling: Sampling
  readonly urgency: Urgency
}): GenerationPlan {
  const { arms, labels, sampling, urgency } = options
  const { responseFormat, tools } = sampling
  const misplaced =
    labels === null
      ? null
      : (FREE_TEXT_FIELDS.find((field) => sampling.shaping?.[field] !== undefined) ??
        (responseFormat && 'response_format') ??
        (tools && 'tools') ??
        null)
  if (misplaced !== null) {
    throw invalidRequest(
      `${misplaced} applies only to free text, and this task answers with one of its labels. Their ` +
        'probabilities are in arcana.labels; send x-arcana-choice: off for a free answer.',
      misplaced,
      'unsupported_parameter',
    )
  }
  // The log probabilities of a label's answer are computed from the labels' probabilities.
  const shaping: TokenShaping = { ...sampling.shaping }
  if (labels !== null) delete shaping.logprobs
  const request: GenerateRequest = {
    request_id: options.requestId,
    tenant: options.projectId,
    ...(urgency.tier === undefined ? {} : { service_tier: urgency.tier }),
    ...options.input,
    arms: arms.map(({ arm }) => arm),
    sampling: {
      ...(sampling.maxTokens === undefined ? {} : { max_tokens: sampling.maxTokens }),
      temperature:
        sampling.temperature ??
        (labels === null ? DEFAULT_TEMPERATURE : DEFAULT_CHOICE_TEMPERATURE),
      top_p: sampling.topP,
      stop: labels === null ? [...sampling.stop] : [],
      ...shaping,
    },
    ...(responseFormat === undefined ? {} : { response_format: responseFormat }),
    ...(tools === undefined ? {} : { tools }),
    ...(labels === null ? {} : { choice: { labels: [...labels] } }),
  }
  return {
    model: options.model,
    modelDigest: arms.find(({ selection }) => selection !== null)?.selection?.modelDigest ?? null,
    request,
    ...(urgency.deadlineAtMs === undefined ? {} : { deadlineAtMs: urgency.deadlineAtMs }),
    expected: arms.map(({ expected }) => expected),
  }
}
