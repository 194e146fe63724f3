import { createHash, randomInt } from 'node:crypto'
import type { AdapterStore } from '../adapters/adapter-store.ts'
import { IDENTITY_SLOT, type SlotTable } from '../adapters/slot-table.ts'
import { prefixKeys } from '../kv-cache/prefix-keys.ts'
import { prefillChunks } from '../scheduler/chunks.ts'
import type { GrammarRow } from '../grammar/grammar-row.ts'
import type { OpenGrammar } from '../grammar/grammar-store.ts'
import type { EngineRequest, PrefillGroup, Sequence } from '../scheduler/request.ts'
import type {
  AdapterTerm,
  Applied,
  Arm,
  GenerateEvent,
  GenerateRequest,
  ChatMessage,
} from '../../src/protocol/runner.ts'
import type { ToolFunction } from '../../src/protocol/tools.ts'
import { RunnerFault } from '../runner-fault.ts'
import { createLogitsProcessors, TokenHistory } from '../sampling/logits-processors/index.ts'
import { createRng } from '../sampling/rng.ts'
import type { SamplerOptions } from '../sampling/sampler.ts'
import { checkTools } from './open-grammar.ts'
import { isHeld } from '../grammar/tool-grammar.ts'
import type { ToolFormat } from '../tools/tool-format.ts'
import { NoChatTemplateError, PromptTooLongError, type ChatTokenizer } from '../tokenizer/index.ts'
import { ChoiceDecoding, TextDecoding, type Decoding } from '../decoding/decoding.ts'
import type { LabelTries } from './label-tries.ts'
import { PromptEcho } from '../decoding/prompt-echo.ts'
import { ToolDecoding } from '../decoding/tool-decoding.ts'

const UINT32_RANGE = 2 ** 32

export type AdmissionContext = {
  readonly tokenizer: ChatTokenizer
  readonly tries: LabelTries
  readonly adapters: AdapterStore
  readonly slots: SlotTable
  readonly modelDigest: string
  readonly buildDigest: string
  readonly maxContext: number
  /** Deadline of a request that names none, from its admission. */
  readonly requestTimeoutMs: number
  readonly now: () => number
}

/**
 * Turns a wire request into one the engine can run: tokens, leased adapters, written slots.
 * Whatever it leased is given back by the request's `release`, or at once where this throws.
 * @param grammar of the wire's `response_format` or `tools`, a row an arm; closed with the leases
 * @throws {RunnerFault} a request that cannot be served
 */
export function admit(
  context: AdmissionContext,
  wire: GenerateRequest,
  emit: (event: GenerateEvent) => void,
  grammar: OpenGrammar | null = null,
): EngineRequest {
  const leases: (() => void)[] = grammar ? [grammar.close] : []
  const release = (): void => {
    for (const end of leases.splice(0)) end()
  }
  try {
    const needsGrammar = wire.response_format !== undefined || (wire.tools && isHeld(wire.tools))
    if (needsGrammar && !grammar) throw new RunnerFault('internal', 'a grammar was not opened')
    const toolFormat = checkTools(context.tokenizer, wire)
    const promptIds = encodeInput(context, wire, context.maxContext - 1)
    const outside = wire.arms.find(({ rotate_from: from }) => from && from >= promptIds.length)
    if (outside) {
      throw new RunnerFault(
        'invalid_request',
        `the prompt has ${promptIds.length} tokens, none at ${outside.rotate_from ?? 0}`,
        { param: 'rotate_from' },
      )
    }
    // Of all arms at once: whoever pushes what is missing then asks once more, and no oftener.
    context.adapters.requireResident(wire.arms.flatMap(({ adapters }) => adapters))
    const slots = wire.arms.map((arm) => leaseSlot(context, arm, leases))
    const admittedAtMs = context.now()
    const request: Omit<EngineRequest, 'groups'> = {
      id: wire.request_id,
      tier: wire.service_tier ?? 'default',
      promptIds,
      emit,
      release,
      admittedAtMs,
      deadlineAtMs: admittedAtMs + (wire.timeout_ms ?? context.requestTimeoutMs),
      aborted: false,
      numUnfinished: wire.arms.length,
      numPrefills: 0,
    }
    // The sequences refer to the very object that the engine tracks.
    const whole = request as EngineRequest
    const sequences = wire.arms.map((arm, index): Sequence => {
      const slot = slots[index]!
      return {
        request: whole,
        arm: index,
        slot,
        decoding: createDecoding(
          context,
          wire,
          arm,
          promptIds,
          grammar?.rows[index] ?? null,
          toolFormat,
        ),
        describeApplied: () => describeApplied(context, slot, arm),
        numComputedTokens: 0,
        numCachedTokens: 0,
        firstTokenAtMs: null,
        lastTokenAtMs: null,
      }
    })
    Object.assign(whole, { groups: groupByPrefill(context, wire, promptIds, sequences) })
    return whole
  } catch (error) {
    release()
    throw error
  }
}

/** @throws {RunnerFault} as {@link encodePrompt}; a prompt of no tokens, or of unknown ones */
function encodeInput(
  context: Pick<AdmissionContext, 'tokenizer'>,
  { messages, prompt, tools }: GenerateRequest,
  maxTokens: number,
): readonly number[] {
  if (messages !== undefined) return encodePrompt(context, messages, maxTokens, tools?.functions)
  const { tokenizer } = context
  const ids = typeof prompt === 'string' ? encodeText(tokenizer, prompt, maxTokens) : (prompt ?? [])
  const fault = (code: 'invalid_request' | 'context_length_exceeded', message: string) =>
    new RunnerFault(code, message, { param: 'prompt' })
  if (ids.length === 0) throw fault('invalid_request', 'the prompt has no tokens')
  if (ids.length > maxTokens) {
    throw fault('context_length_exceeded', new PromptTooLongError(maxTokens).message)
  }
  const unknown = ids.find((id) => id >= tokenizer.vocabSize)
  if (unknown !== undefined) {
    throw fault('invalid_request', `the vocabulary has no token ${unknown}`)
  }
  return ids
}

function encodeText(tokenizer: ChatTokenizer, text: string, maxTokens: number): number[] {
  try {
    return tokenizer.encode(text, { maxTokens })
  } catch (error) {
    throw asTooLong(error, 'prompt')
  }
}

/** The fault of a text that is longer than allowed; any other error as it is. */
export function asTooLong(error: unknown, param: string): unknown {
  if (!(error instanceof PromptTooLongError)) return error
  return new RunnerFault('context_length_exceeded', error.message, { param })
}

/** @throws {RunnerFault} context_length_exceeded; invalid_request where the template refuses */
export function encodePrompt(
  { tokenizer }: Pick<AdmissionContext, 'tokenizer'>,
  messages: readonly ChatMessage[],
  maxTokens: number,
  functions: readonly ToolFunction[] = [],
): number[] {
  try {
    return tokenizer.encodeChat(messages, { maxTokens, functions })
  } catch (error) {
    if (error instanceof PromptTooLongError) throw asTooLong(error, 'messages')
    if (error instanceof NoChatTemplateError) {
      throw new RunnerFault('invalid_request', error.message, { param: 'messages' })
    }
    const reason = error instanceof Error ? error.message : String(error)
    throw new RunnerFault('invalid_request', `the chat template refuses: ${reason}`, {
      param: 'messages',
    })
  }
}

/** Names the rotation of a selection: equal keys are equal rotations. */
function selectionKey(terms: readonly AdapterTerm[]): string {
  return JSON.stringify(terms.map(({ digest, weight }) => [digest, weight]))
}

function leaseSlot(context: AdmissionContext, arm: Arm, leases: (() => void)[]): number {
  if (arm.adapters.length === 0) return IDENTITY_SLOT
  if (arm.scope === 'all' && (arm.rotate_from ?? 0) !== 0) {
    throw new RunnerFault('invalid_request', 'scope all rotates from 0', { param: 'rotate_from' })
  }
  leases.push(context.adapters.lease(arm.adapters, arm.scope))
  const slot = context.slots.acquire(selectionKey(arm.adapters), () =>
    context.adapters.compose(arm.adapters),
  )
  leases.push(() => {
    context.slots.release(slot)
  })
  return slot
}

function createDecoding(
  { tokenizer, tries, maxContext }: AdmissionContext,
  { choice, sampling, tools }: GenerateRequest,
  arm: Arm,
  promptIds: readonly number[],
  grammar: GrammarRow | null,
  toolFormat: ToolFormat | null,
): Decoding {
  const lastPromptToken = promptIds[promptIds.length - 1]!
  const sampler: SamplerOptions = {
    temperature: sampling.temperature,
    topP: sampling.top_p,
    ...(sampling.top_k === undefined ? {} : { topK: sampling.top_k }),
    ...(sampling.min_p === undefined ? {} : { minP: sampling.min_p }),
  }
  const processors = createLogitsProcessors(sampling)
  const random = createRng(arm.seed ?? randomInt(UINT32_RANGE))
  const room = maxContext - promptIds.length + 1
  if (!choice) {
    if (arm.bias)
      throw new RunnerFault('invalid_request', 'a bias needs a choice', { param: 'arms' })
    const maxTokens = Math.min(sampling.max_tokens ?? room, room)
    checkLogitBias(sampling.logit_bias, tokenizer.vocabSize)
    const text = new TextDecoding(tokenizer, {
      lastPromptToken,
      maxTokens,
      stops: sampling.stop,
      sampler,
      random,
      processors,
      grammar,
      history: new TokenHistory(promptIds),
      numTopLogprobs: sampling.logprobs ?? null,
      shownTokens: toolFormat?.markers ? Object.values(toolFormat.markers) : [],
    })
    if (!tools || !toolFormat) return text
    const names = tools.functions.map(({ name }) => name)
    return new ToolDecoding(text, { format: toolFormat, names, parallel: tools.parallel })
  }
  if (grammar) {
    throw new RunnerFault('invalid_request', 'a choice of labels is a response format of its own', {
      param: 'response_format',
    })
  }
  if (processors.length > 0 || sampling.logprobs !== undefined) {
    throw new RunnerFault(
      'invalid_request',
      'a choice has the probabilities of its labels; logprobs, logit_bias and penalties are of tokens',
      { param: 'choice' },
    )
  }
  if (arm.bias && arm.bias.length !== choice.labels.length) {
    throw new RunnerFault(
      'invalid_request',
      `${arm.bias.length} biases for ${choice.labels.length} labels`,
      { param: 'arms' },
    )
  }
  const trie = tries.get(choice.labels)
  if (1 + trie.maxFeedDepth > room) {
    throw new RunnerFault('context_length_exceeded', 'no room for the labels after the prompt', {
      param: 'messages',
    })
  }
  return new ChoiceDecoding(trie, choice.labels, lastPromptToken, arm.bias, sampler, random)
}

function checkLogitBias(
  entries: readonly (readonly [number, number])[] = [],
  vocabSize: number,
): void {
  const outside = entries.find(([id]) => id >= vocabSize)
  if (outside) {
    throw new RunnerFault('invalid_request', `the vocabulary has no token ${outside[0]}`, {
      param: 'logit_bias',
    })
  }
}

/** Read back from the slot itself, so that it says what is applied, not what was asked. */
function describeApplied(context: AdmissionContext, slot: number, arm: Arm): Applied {
  const key = context.slots.keyOf(slot)
  const terms = key === '' ? [] : (JSON.parse(key) as [string, number][])
  return {
    adapters: terms.map(([digest, weight]) => ({ digest, weight })),
    scope: arm.scope,
    rotate_from: arm.rotate_from ?? null,
    layers: [...context.slots.layers(slot)],
    model_digest: context.modelDigest,
    build_digest: context.buildDigest,
    bias_digest: arm.bias ? digestOfBias(arm.bias) : null,
  }
}

/** SHA-256 of the values as little-endian float64. */
function digestOfBias(bias: readonly number[]): string {
  const bytes = new DataView(new ArrayBuffer(8 * bias.length))
  for (const [i, value] of bias.entries()) bytes.setFloat64(8 * i, value, true)
  return createHash('sha256').update(new Uint8Array(bytes.buffer)).digest('hex')
}

/**
 * Arms of scope `generated`, and base arms whatever their scope, share the base model's prefill; arms
 * that turn the prompt alike share a rotated one. A tenant's equal prefixes share their KV: base
 * ones under any adapter, those of scope `all` under the same ordered list of adapters and weights.
 * What a named position turns is not shared.
 */
function groupByPrefill(
  context: AdmissionContext,
  wire: GenerateRequest,
  promptIds: readonly number[],
  sequences: readonly Sequence[],
): PrefillGroup[] {
  const { tenant } = wire
  const { slots, buildDigest, tokenizer } = context
  // The last prompt token is a decode row's, which its slot turns in any case.
  const promptEnd = promptIds.length - 1
  const rotateFrom = ({ arm, slot }: Sequence): number => {
    const { scope, rotate_from: from = promptEnd } = wire.arms[arm]!
    if (slot === IDENTITY_SLOT) return promptEnd
    return scope === 'all' ? 0 : Math.min(from, promptEnd)
  }
  const groups = Map.groupBy(sequences, (sequence) => {
    const from = rotateFrom(sequence)
    return from === promptEnd
      ? 'base'
      : `${wire.arms[sequence.arm]!.scope}:${sequence.slot}:${from}`
  })
  const chunks = prefillChunks(promptEnd)
  return [...groups.values()].map((members) => {
    const first = members[0]!
    const from = rotateFrom(first)
    const isAll = from < promptEnd && wire.arms[first.arm]!.scope === 'all'
    const shared = isAll ? chunks : chunks.filter(([, end]) => end <= from)
    const rotation = isAll ? slots.keyOf(first.slot) : ''
    const prefix =
      tenant === undefined ? [] : prefixKeys({ tenant, buildDigest, rotation }, promptIds, shared)
    const echo = wire.echo
      ? new PromptEcho(tokenizer, promptIds, wire.sampling.logprobs ?? null)
      : null
    const slot = from === promptEnd ? IDENTITY_SLOT : first.slot
    return { slot, rotateFrom: from, prefixKeys: prefix, echo, sequences: members }
  })
}
