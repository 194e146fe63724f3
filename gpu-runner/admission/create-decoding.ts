import { randomInt } from 'node:crypto'
import { ChoiceDecoding, TextDecoding, type Decoding } from '../decoding/decoding.ts'
import { ToolDecoding } from '../decoding/tool-decoding.ts'
import type { GrammarRow } from '../grammar/grammar-row.ts'
import { RunnerFault } from '../runner-fault.ts'
import {
  createLogitsProcessors,
  TokenHistory,
  type LogitsProcessor,
} from '../sampling/logits-processors/index.ts'
import { createRng } from '../sampling/rng.ts'
import type { SamplerOptions } from '../sampling/sampler.ts'
import type { ToolFormat } from '../tools/tool-format.ts'
import type { Arm, GenerateRequest } from '../../src/protocol/runner.ts'
import type { AdmissionContext } from './context.ts'

const UINT32_RANGE = 2 ** 32

/** The request that an arm's decoding is made for, and what admission has found for it so far. */
export type DecodingParts = {
  readonly wire: GenerateRequest
  readonly arm: Arm
  readonly promptIds: readonly number[]
  readonly grammar: GrammarRow | null
  /** How the model writes calls; null where the request has no functions. */
  readonly toolFormat: ToolFormat | null
}

/**
 * How one arm's logits become an answer: free text, calls of functions, or one of the labels.
 * @throws {RunnerFault} fields that do not go together, unknown tokens, labels without room
 */
export function createDecoding(context: AdmissionContext, parts: DecodingParts): Decoding {
  const { wire, arm } = parts
  const processors = createLogitsProcessors(wire.sampling)
  const random = createRng(arm.seed ?? randomInt(UINT32_RANGE))
  return wire.choice
    ? createChoice(context, parts, wire.choice.labels, processors, random)
    : createText(context, parts, processors, random)
}

function createText(
  { tokenizer, maxContext }: AdmissionContext,
  { wire: { sampling, tools }, arm, promptIds, grammar, toolFormat }: DecodingParts,
  processors: readonly LogitsProcessor[],
  random: () => number,
): Decoding {
  if (arm.bias) throw new RunnerFault('invalid_request', 'a bias needs a choice', { param: 'arms' })
  checkLogitBias(sampling.logit_bias, tokenizer.vocabSize)
  const room = roomAfter(promptIds, maxContext)
  const text = new TextDecoding(tokenizer, {
    lastPromptToken: promptIds.at(-1)!,
    maxTokens: Math.min(sampling.max_tokens ?? room, room),
    stops: sampling.stop,
    sampler: samplerOptions(sampling),
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

function createChoice(
  { tries, maxContext }: AdmissionContext,
  { wire: { sampling }, arm, promptIds, grammar }: DecodingParts,
  labels: readonly string[],
  processors: readonly LogitsProcessor[],
  random: () => number,
): Decoding {
  if (grammar) {
    throw new RunnerFault(
      'invalid_request',
      'a response format and a choice of labels exclude each other',
      {
        param: 'response_format',
      },
    )
  }
  if (processors.length > 0 || sampling.logprobs !== undefined) {
    throw new RunnerFault(
      'invalid_request',
      'logprobs, logit_bias and penalties apply to tokens, so they cannot go with a choice of labels',
      { param: 'choice' },
    )
  }
  if (arm.bias && arm.bias.length !== labels.length) {
    throw new RunnerFault(
      'invalid_request',
      `${arm.bias.length} biases for ${labels.length} labels`,
      { param: 'arms' },
    )
  }
  const trie = tries.get(labels)
  if (1 + trie.maxFeedDepth > roomAfter(promptIds, maxContext)) {
    throw new RunnerFault(
      'context_length_exceeded',
      'the context has no room for the labels after the prompt',
      {
        param: 'messages',
      },
    )
  }
  const lastPromptToken = promptIds.at(-1)!
  const sampler = samplerOptions(sampling)
  return new ChoiceDecoding(trie, labels, lastPromptToken, arm.bias, sampler, random)
}

/** Tokens that can be generated: the last one is not fed, so it takes no place in the context. */
const roomAfter = (promptIds: readonly number[], maxContext: number): number =>
  maxContext - promptIds.length + 1

const samplerOptions = (sampling: GenerateRequest['sampling']): SamplerOptions => ({
  temperature: sampling.temperature,
  topP: sampling.top_p,
  ...(sampling.top_k === undefined ? {} : { topK: sampling.top_k }),
  ...(sampling.min_p === undefined ? {} : { minP: sampling.min_p }),
})

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
