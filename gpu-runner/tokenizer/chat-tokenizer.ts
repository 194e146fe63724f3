import type { PromptMessage } from '../../src/protocol/runner.ts'
import type { GgufMetadata } from '../model/gguf/index.ts'
import { ChatTemplate, type PromptSegment } from './chat-template.ts'
import { Detokenizer } from './detokenizer.ts'
import { readVocabulary, type Vocabulary } from './vocabulary.ts'

/** From this length on a pre-token's own bound is worth a walk over the vocabulary. */
const LONG_PRE_TOKEN_LEN = 4096

/** A prompt that needs more tokens than the caller allows; found before all of it was encoded. */
export class PromptTooLongError extends Error {
  override readonly name = 'PromptTooLongError'
  readonly maxTokens: number

  constructor(maxTokens: number) {
    super(`the prompt is longer than ${maxTokens} tokens`)
    this.maxTokens = maxTokens
  }
}

export type ControlTokens = { readonly bos: string | null; readonly pad: string | null }

/** A model's tokenizer and chat template, both as its GGUF file carries them. */
export class ChatTokenizer {
  readonly endOfTurnId: number
  /** Tokens that end an answer: the end of a turn, and the end of text. */
  readonly stopIds: ReadonlySet<number>
  readonly vocabSize: number
  /** As the model's file names them. */
  readonly controlTokens: ControlTokens
  readonly #vocabulary: Vocabulary
  readonly #template: ChatTemplate
  /** Bytes of the longest token that text can become. */
  readonly #maxTokenBytes: number
  /** Each token's bytes, a control token's being its name's. */
  readonly #shownBytesOfId: readonly Uint8Array[]
  /** Splits template text at control tokens, keeping them as the odd parts; longest first. */
  readonly #specialPattern: RegExp

  constructor(
    vocabulary: Vocabulary,
    template: ChatTemplate,
    controlTokens: ControlTokens = { bos: null, pad: null },
  ) {
    this.controlTokens = controlTokens
    this.#vocabulary = vocabulary
    this.#template = template
    this.endOfTurnId = vocabulary.endOfTurnId
    this.stopIds = vocabulary.stopIds
    this.vocabSize = vocabulary.tokens.length
    this.#maxTokenBytes = vocabulary.bytesOfId.reduce(
      (max, bytes) => Math.max(max, bytes?.length ?? 0),
      1,
    )
    const utf8 = new TextEncoder()
    this.#shownBytesOfId = vocabulary.tokens.map(
      (token, id) => vocabulary.bytesOfId[id] ?? utf8.encode(token),
    )
    const specials = [...vocabulary.specialIds.keys()].sort((a, b) => b.length - a.length)
    this.#specialPattern = new RegExp(`(${specials.map(escapeRegExp).join('|')})`, 'u')
  }

  /** @throws {GgufError} a tokenizer that is not served, or no chat template */
  static fromGguf(metadata: GgufMetadata): ChatTokenizer {
    const vocabulary = readVocabulary(metadata)
    const tokenOf = (key: string): string | undefined => {
      const id = metadata.optionalNumber(key)
      return id === undefined ? undefined : vocabulary.tokens[id]
    }
    const template = new ChatTemplate(metadata.string('tokenizer.chat_template'), {
      bos_token: tokenOf('tokenizer.ggml.bos_token_id'),
      eos_token: tokenOf('tokenizer.ggml.eos_token_id'),
    })
    return new ChatTokenizer(vocabulary, template, {
      bos: tokenOf('tokenizer.ggml.bos_token_id') ?? null,
      pad: tokenOf('tokenizer.ggml.padding_token_id') ?? null,
    })
  }

  /**
   * Encodes text in which control tokens written out count as control tokens.
   * @throws {PromptTooLongError} over `maxTokens`, in time bounded as {@link encodeChat}'s
   */
  encode(text: string, options: { readonly maxTokens?: number } = {}): number[] {
    const maxTokens = options.maxTokens ?? Infinity
    if (Buffer.byteLength(text) > maxTokens * this.#maxTokenBytes) {
      throw new PromptTooLongError(maxTokens)
    }
    return this.#encodeSegments([{ text, trusted: true }], maxTokens)
  }

  /** Encodes text in the assistant's position; control tokens written out are plain text. */
  encodeLabel(text: string): number[] {
    return this.#encodeSegments([{ text, trusted: false }], Infinity)
  }

  get templateSource(): string {
    return this.#template.source
  }

  /** The prompt's text, up to and with the opening of the assistant's answer. */
  renderChat(messages: readonly PromptMessage[]): string {
    return this.#template.render(messages)
  }

  /**
   * The prompt's ids: those of `encode(renderChat(messages))`, except that control tokens which a
   * message's content writes out stay plain text.
   * @throws {PromptTooLongError} over `maxTokens`. Work is bounded by maxTokens, not by the text: no
   *   token is over maxTokenBytes (81 for SmolLM2), so more than maxTokens × maxTokenBytes bytes are
   *   refused unread (bytes that the vocabulary would drop count too), one long run is refused by
   *   the longest token of its own characters, and the rest stops at the first token too many
   */
  encodeChat(
    messages: readonly PromptMessage[],
    options: { readonly maxTokens?: number } = {},
  ): number[] {
    const maxTokens = options.maxTokens ?? Infinity
    const contentBytes = messages.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0)
    if (contentBytes > maxTokens * this.#maxTokenBytes) throw new PromptTooLongError(maxTokens)
    return this.#encodeSegments(this.#template.segments(messages), maxTokens)
  }

  decode(ids: readonly number[]): string {
    const detokenizer = this.createDetokenizer()
    return ids.map((id) => detokenizer.push(id)).join('') + detokenizer.flush()
  }

  /** As {@link createDetokenizer}, with control tokens as their names. */
  createVerbatimDetokenizer(): Detokenizer {
    return new Detokenizer(this.#shownBytesOfId)
  }

  /** A token's own bytes, which may be part of a character; a control token's name. */
  bytesOf(id: number): Uint8Array {
    const bytes = this.#shownBytesOfId[id]
    if (!bytes) throw new RangeError(`no token ${id}`)
    return bytes
  }

  /** A token's own bytes as text; null for control tokens, which are none. */
  textBytesOf(id: number): Uint8Array | null {
    return this.#vocabulary.bytesOfId[id] ?? null
  }

  createDetokenizer(): Detokenizer {
    return new Detokenizer(this.#vocabulary.bytesOfId)
  }

  /**
   * Control tokens cut the text into sections, and merges never cross one. So template text and the
   * contents beside it are encoded as one section, just as in the whole text.
   */
  #encodeSegments(segments: readonly PromptSegment[], maxTokens: number): number[] {
    const ids: number[] = []
    let section = ''
    const endSection = (): void => {
      this.#encodeSection(section, maxTokens, ids)
      section = ''
    }
    for (const { text, trusted } of segments) {
      if (!trusted) {
        section += text
        continue
      }
      for (const [i, part] of text.split(this.#specialPattern).entries()) {
        if (i % 2 === 0) {
          section += part
        } else {
          endSection()
          ids.push(this.#vocabulary.specialIds.get(part)!)
        }
      }
    }
    endSection()
    if (ids.length > maxTokens) throw new PromptTooLongError(maxTokens)
    return ids
  }

  #encodeSection(text: string, maxTokens: number, ids: number[]): void {
    const { pre_tokenizer: preTokenizer, model } = this.#vocabulary.tokenizer
    for (const preToken of preTokenizer(text)) {
      if (ids.length + this.#minTokens(preToken, maxTokens) > maxTokens) {
        throw new PromptTooLongError(maxTokens)
      }
      for (const token of model([preToken])) ids.push(model.tokens_to_ids.get(token)!)
    }
  }

  /** A lower bound of a pre-token's tokens, taken only where encoding it would be slow. */
  #minTokens(preToken: string, maxTokens: number): number {
    if (preToken.length < LONG_PRE_TOKEN_LEN || maxTokens === Infinity) return 0
    const chars = new Set(preToken)
    let longest = 1
    for (const token of this.#vocabulary.tokens) {
      if (token.length > longest && Array.from(token).every((char) => chars.has(char))) {
        longest = token.length
      }
    }
    return preToken.length / longest
  }
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
}
