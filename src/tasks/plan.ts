import type { GenerationPlan } from '../dispatch/generate.ts'
import { biasBytes, type ExpectedProof } from '../dispatch/proof.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import type { ArcanaProof } from '../protocol/openai/chat-completions.ts'
import { fieldNotOfLabels, type TokenShaping } from '../protocol/openai/sampling.ts'
import type { Applied, Arm, GenerateRequest, LabelProbability } from '../protocol/runner.ts'
import { sha256Hex } from '../storage/digest.ts'
import { baseArm, expectedLayers, type ResolvedSelection } from './compose.ts'
import type { Service } from './service.ts'
import { calibrateLabels, isWithheld } from './confidence.ts'
import { formatSelection, type SelectionTerm } from './selection.ts'
import { readSelection } from './resolve.ts'

/** Splits `slug` or `slug:SELECTION`; the slug must be the base model's. */
export function splitModel(model: string, baseModel: string): string | null {
  if (model === baseModel) return null
  if (model.startsWith(`${baseModel}:`)) return model.slice(baseModel.length + 1)
  throw modelNotFound(model)
}

export const modelNotFound = (model: string) =>
  new ApiError(404, `The model \`${model}\` does not exist.`, {
    param: 'model',
    code: 'model_not_found',
  })

export type Selected = { readonly terms: readonly SelectionTerm[]; readonly param: string }

/**
 * The selection a request names in `x-task` or after its model's `:`.
 * @returns null for the base model
 * @throws {ApiError} 400 where both are given and differ
 */
export function selectionOf(
  model: string,
  baseModel: string,
  header: string | undefined,
): Selected | null {
  const afterModel = splitModel(model, baseModel)
  const fromModel = afterModel === null ? null : readSelection(afterModel, 'model')
  const fromHeader = header === undefined ? null : readSelection(header, 'x-task')
  if (fromModel !== null && fromHeader !== null) {
    const [a, b] = [formatSelection(fromModel), formatSelection(fromHeader)]
    if (a !== b) {
      throw invalidRequest(
        `The model names the task "${a}" and the x-task header "${b}"; give one of them.`,
        'x-task',
        'conflicting_selection',
      )
    }
  }
  if (fromHeader !== null) return { terms: fromHeader, param: 'x-task' }
  return fromModel === null ? null : { terms: fromModel, param: 'model' }
}

/** `x-arcana-choice: off` lets a classification task answer freely. */
export function readChoiceHeader(header: string | undefined): boolean {
  if (header === undefined || header === 'on') return true
  if (header === 'off') return false
  throw invalidRequest('x-arcana-choice must be "on" or "off".', 'x-arcana-choice')
}

/** One arm of a request, before a runner is chosen. Null selection: the base model. */
export type PlannedArm = {
  readonly selection: ResolvedSelection | null
  readonly arm: Arm
  readonly expected: ExpectedProof
}

/**
 * @param labels what the answer is restricted to, or null; the selection's bias is put in their
 * order, and left out where the answer is free
 * @param rotateFrom first rotated token of a given prompt
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
      biasDigest: bias === undefined ? null : await sha256Hex(biasBytes(bias)),
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

/** OpenAI's default for free text; under a choice of labels the likeliest is the answer. */
const DEFAULT_TEMPERATURE = 1
const DEFAULT_CHOICE_TEMPERATURE = 0

/** @throws {ApiError} 400 naming a field that has no meaning for a choice of labels */
export function planGeneration(options: {
  readonly requestId: string
  readonly projectId: string
  readonly model: string
  readonly input: Pick<GenerateRequest, 'messages' | 'prompt' | 'echo'>
  readonly arms: readonly PlannedArm[]
  readonly labels: readonly string[] | null
  readonly sampling: Sampling
  readonly service: Service
}): GenerationPlan {
  const { arms, labels, sampling, service } = options
  const { responseFormat, tools } = sampling
  const misplaced =
    labels === null
      ? null
      : (fieldNotOfLabels(sampling.shaping ?? {}) ??
        (responseFormat && 'response_format') ??
        (tools && 'tools') ??
        null)
  if (misplaced !== null) {
    throw invalidRequest(
      `${misplaced} is of free text, and this task answers with one of its labels, whose ` +
        'probabilities are in arcana.labels; send x-arcana-choice: off for a free answer.',
      misplaced,
      'unsupported_parameter',
    )
  }
  // A label is not cut, and its log probabilities come from those of the labels.
  const shaping: TokenShaping = { ...sampling.shaping }
  if (labels !== null) delete shaping.logprobs
  const request: GenerateRequest = {
    request_id: options.requestId,
    tenant: options.projectId,
    ...(service.tier === undefined ? {} : { service_tier: service.tier }),
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
    ...(service.deadlineAtMs === undefined ? {} : { deadlineAtMs: service.deadlineAtMs }),
    expected: arms.map(({ expected }) => expected),
  }
}

/**
 * The body's proof: what the runner said, under the names the caller knows.
 * @param labels as the runner gave them
 */
export function proofOf(
  selection: ResolvedSelection | null,
  applied: Applied,
  runnerId: string,
  labels?: readonly LabelProbability[],
  confidence: Confidence | null = null,
): ArcanaProof {
  const served = labels === undefined ? undefined : calibrateLabels(labels, selection)
  const terms = selection?.terms ?? []
  return {
    task: selection?.expression ?? null,
    version: terms.length === 1 ? terms[0]!.version.number : null,
    adapters: applied.adapters.map(({ digest, weight }) => {
      const version = terms.find((term) => term.version.adapterDigest === digest)!.version
      return { digest, weight, task: version.task, version: version.number }
    }),
    scope: applied.scope,
    layers: applied.layers,
    model_digest: applied.model_digest,
    build_digest: applied.build_digest,
    runner: runnerId,
    ...(served === undefined ? {} : { labels: served }),
    ...(served === undefined || confidence === null
      ? {}
      : { min_confidence: confidence.min, withheld: isWithheld(served, confidence) }),
  }
}

/** The headers' proof; none for the base model. A sum's entries stand in its order. */
export function proofHeaders(selection: ResolvedSelection | null): Record<string, string> {
  if (selection === null) return {}
  return {
    'x-arcana-task': selection.expression,
    'x-arcana-version': selection.terms.map(({ version }) => version.number).join(','),
    'x-arcana-adapter': selection.arm.adapters.map(({ digest }) => digest).join(','),
  }
}
