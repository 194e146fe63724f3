import { LabelScorer, type LabelTrie } from '../../adapters/objective/label-trie.ts'
import type { LabelProbability, PositionLogprob } from '../../src/protocol/runner.ts'
import type { GrammarRow } from '../grammar/grammar-row.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { LogitsProcessor, TokenHistory } from '../sampling/logits-processors/index.ts'
import { sample, type SamplerOptions } from '../sampling/sampler.ts'
import { StopMatcher } from '../sampling/stop-matcher.ts'
import type { ChatTokenizer, Detokenizer } from '../tokenizer/index.ts'
import { describePosition, rankPosition } from './describe-logprobs.ts'

/** What a row gives out after reading the logits of a step. */
export type DecodingOutput =
  | {
      readonly kind: 'token'
      readonly text: string
      readonly ids: readonly number[]
      /** One for each id, where log probabilities are asked for. */
      readonly logprobs?: readonly PositionLogprob[]
    }
  | {
      readonly kind: 'tool_call'
      /** Which of the answer's calls this is part of, from 0. */
      readonly index: number
      /** Only on a call's first part. */
      readonly name?: string
      /** The next part of its arguments' JSON. */
      readonly arguments: string
    }
  | { readonly kind: 'labels'; readonly labels: readonly LabelProbability[] }
  | {
      readonly kind: 'finish'
      readonly reason: 'stop' | 'length' | 'tool_calls'
      readonly completionTokens: number
      readonly stopToken?: PositionLogprob
    }
  /** Ends this request, but not the others of the batch. */
  | { readonly kind: 'fault'; readonly fault: RunnerFault }

/**
 * How one row goes from step to step: which token it feeds at which position, and how it reads the
 * logits. Offsets count from the last prompt token, which is fed first, at offset 0.
 */
export interface Decoding {
  /** The token to feed next, and its offset. */
  readonly next: { readonly token: number; readonly offset: number }
  /** Most tokens that will be fed; the prompt must leave room for them. */
  readonly maxOffsets: number
  /**
   * Reads the logits [vocab] of the token just fed, and may change them. If it returns nothing and
   * `next` stays as it was, the same token is to be fed once more.
   */
  read(logits: Float32Array): DecodingOutput[]
}

export type TextDecodingOptions = {
  readonly lastPromptToken: number
  readonly maxTokens: number
  readonly stops: readonly string[]
  readonly sampler: SamplerOptions
  /** Uniform in [0, 1). */
  readonly random: () => number
  readonly processors: readonly LogitsProcessor[]
  /** The grammar that the text must satisfy; null for free text. */
  readonly grammar: GrammarRow | null
  /** Tokens so far: the prompt's, to which every token drawn is added. */
  readonly history: TokenHistory
  /** How many of the likeliest tokens to report at each position; null reports no log probabilities. */
  readonly numTopLogprobs: number | null
  /** Control tokens that the text shows by their names. */
  readonly shownTokens?: readonly string[]
}

/** Free text: change the logits, sample, detokenise, watch for stops. */
export class TextDecoding implements Decoding {
  readonly maxOffsets: number
  next: { token: number; offset: number }
  readonly #tokenizer: ChatTokenizer
  readonly #detokenizer: Detokenizer
  readonly #stops: StopMatcher
  readonly #options: TextDecodingOptions
  /** A copy of the model's own logits, made where processors change them and both are needed. */
  #rawLogits: Float32Array | null = null
  #numTokens = 0

  constructor(tokenizer: ChatTokenizer, options: TextDecodingOptions) {
    this.#tokenizer = tokenizer
    this.#detokenizer = tokenizer.createDetokenizer(options.shownTokens)
    this.#stops = new StopMatcher(options.stops)
    this.#options = options
    this.maxOffsets = options.maxTokens
    this.next = { token: options.lastPromptToken, offset: 0 }
  }

  read(logits: Float32Array): DecodingOutput[] {
    const { grammar } = this.#options
    const mask = grammar?.poll() ?? 'ready'
    if (mask === 'pending') return []
    if (mask === 'failed') {
      return [
        { kind: 'fault', fault: new RunnerFault('internal', 'the thread of the grammar failed') },
      ]
    }
    const { id, logprob } = this.#draw(logits)
    this.#numTokens += 1
    if (this.#tokenizer.stopIds.has(id)) {
      return this.#finish('stop', { text: '', ids: [] }, logprob)
    }
    const { text, stopped } = this.#stops.push(this.#detokenizer.push(id))
    const said = { text, ids: [id], ...(logprob ? { logprobs: [logprob] } : {}) }
    if (stopped) return [{ kind: 'token', ...said }, this.#finishEvent('stop')]
    grammar?.accept(id)
    if (this.#numTokens === this.maxOffsets) {
      return this.#finish(grammar?.isComplete() ? 'stop' : 'length', said)
    }
    this.next = { token: id, offset: this.next.offset + 1 }
    return [{ kind: 'token', ...said }]
  }

  #draw(logits: Float32Array): { id: number; logprob: PositionLogprob | null } {
    const { processors, grammar, history, numTopLogprobs, sampler, random } = this.#options
    let raw = logits
    if ((processors.length > 0 || grammar) && numTopLogprobs !== null) {
      raw = this.#rawLogits ??= new Float32Array(logits.length)
      raw.set(logits)
    }
    for (const processor of processors) processor.process(logits, history)
    // The grammar comes last, so that no bias or penalty can lift what it bars.
    grammar?.process(logits)
    const id = sample(logits, sampler, random)
    history.push(id)
    if (numTopLogprobs === null) return { id, logprob: null }
    const logprob = describePosition(this.#tokenizer, rankPosition(raw, id, numTopLogprobs))
    return { id, logprob }
  }

  /** Gives out the text that the detokeniser and the stop matcher still hold, then ends. */
  #finish(
    reason: 'stop' | 'length',
    said: { text: string; ids: readonly number[]; logprobs?: readonly PositionLogprob[] },
    stopToken: PositionLogprob | null = null,
  ): DecodingOutput[] {
    const tail = this.#stops.push(this.#detokenizer.flush())
    const text = said.text + tail.text + (tail.stopped ? '' : this.#stops.flush())
    const last: DecodingOutput[] =
      text.length > 0 || said.ids.length > 0 ? [{ kind: 'token', ...said, text }] : []
    return [...last, this.#finishEvent(reason, stopToken)]
  }

  #finishEvent(
    reason: 'stop' | 'length',
    stopToken: PositionLogprob | null = null,
  ): DecodingOutput {
    return {
      kind: 'finish',
      reason,
      completionTokens: this.#numTokens,
      ...(stopToken ? { stopToken } : {}),
    }
  }
}

/** A choice of labels: reads the trie's branching nodes, then answers with a whole label. */
export class ChoiceDecoding implements Decoding {
  readonly maxOffsets: number
  next: { token: number; offset: number }
  readonly #trie: LabelTrie
  readonly #scorer: LabelScorer
  readonly #labels: readonly string[]
  readonly #bias: readonly number[] | undefined
  readonly #options: SamplerOptions
  readonly #random: () => number
  /** How many nodes have been fed; the root is the first. */
  #numFed = 0

  constructor(
    trie: LabelTrie,
    labels: readonly string[],
    lastPromptToken: number,
    bias: readonly number[] | undefined,
    options: SamplerOptions,
    random: () => number,
  ) {
    this.#trie = trie
    this.#scorer = new LabelScorer(trie)
    this.#labels = labels
    this.#bias = bias
    this.#options = options
    this.#random = random
    this.maxOffsets = 1 + trie.maxFeedDepth
    this.next = { token: lastPromptToken, offset: 0 }
  }

  read(logits: Float32Array): DecodingOutput[] {
    const fed = this.#numFed === 0 ? 0 : this.#trie.feeds[this.#numFed - 1]!.node
    this.#scorer.read(fed, logits)
    const following = this.#trie.feeds[this.#numFed]
    this.#numFed += 1
    if (following) {
      this.next = { token: following.token, offset: following.depth }
      return []
    }
    const logProbs = this.#scorer.result()
    const scores = logProbs.map((logProb, label) => logProb + (this.#bias?.[label] ?? 0))
    const chosen = sample(scores, this.#options, this.#random)
    const ids = this.#trie.labelTokens[chosen]!
    const probabilities = softmax(scores)
    return [
      {
        kind: 'labels',
        labels: this.#labels.map((label, i) => ({
          label,
          probability: probabilities[i]!,
          log_probability: logProbs[i]!,
        })),
      },
      { kind: 'token', text: this.#labels[chosen]!, ids },
      { kind: 'finish', reason: 'stop', completionTokens: ids.length },
    ]
  }
}

function softmax(scores: readonly number[]): number[] {
  const largest = Math.max(...scores)
  const weights = scores.map((score) => Math.exp(score - largest))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return weights.map((weight) => weight / total)
}
