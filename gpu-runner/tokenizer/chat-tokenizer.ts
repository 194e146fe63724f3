import { setImmediate } from 'node:timers/promises'
import type { ChatMessage } from '../../src/protocol/runner.ts'
import type { ToolFunction } from '../../src/protocol/tools.ts'
import type { GgufMetadata } from '../model/gguf/index.ts'
import { GENERIC_FORMAT } from '../tools/generic-form.ts'
import { ChatTemplate, type PromptSegment, type ToolSupport } from './chat-template.ts'
import { Detokenizer } from './detokenizer.ts'
import { PromptTooLongError } from './section-encoder.ts'
import { TokenTrie } from './token-trie.ts'
import { readVocabulary, type Vocabulary } from './vocabulary.ts'

/** A chat was sent to a model whose file has no chat template. */
export class NoChatTemplateError extends Error {
  override readonly name = 'NoChatTemplateError'

  constructor() {
    super('this model has no chat template: it completes text (/v1/completions), and holds no chat')
  }
}

const GENERIC_TOOLS: ToolSupport = {
  showsFunctions: false,
  showsCalls: true,
  format: GENERIC_FORMAT,
}

export type ControlTokens = { readonly bos: string | null; readonly pad: string | null }

/** A model's tokenizer and chat template, as its GGUF file has them. */
export class ChatTokenizer {
  readonly endOfTurnId: number
  /** Tokens that end an answer: the end of a turn, and the end of text. */
  readonly stopIds: ReadonlySet<number>
  readonly vocabSize: number
  /** Names of control tokens in the model's file. */
  readonly controlTokens: ControlTokens
  readonly #vocabulary: Vocabulary
  readonly #template: ChatTemplate | null
  /** Length in bytes of the longest token that text can become. */
  readonly #maxTokenBytes: number
  /** Each token's bytes; for a control token, its name's. */
  readonly #shownBytesOfId: readonly Uint8Array[]
  /** Finds control tokens in the template's text. */
  readonly #specials: TokenTrie

  /** @param template null for a model without a chat template */
  constructor(
    vocabulary: Vocabulary,
    template: ChatTemplate | null,
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
    this.#specials = new TokenTrie(vocabulary.specialIds)
  }

  /** @throws {GgufError} an unsupported tokenizer */
  static fromGguf(metadata: GgufMetadata): ChatTokenizer {
    const vocabulary = readVocabulary(metadata)
    const tokenOf = (key: string): string | undefined => {
      const id = metadata.optionalNumber(key)
      return id === undefined ? undefined : vocabulary.tokens[id]
    }
    const template = metadata.optionalString('tokenizer.chat_template')
    const variables = {
      bos_token: tokenOf('tokenizer.ggml.bos_token_id'),
      eos_token: tokenOf('tokenizer.ggml.eos_token_id'),
    }
    return new ChatTokenizer(
      vocabulary,
      template === undefined ? null : new ChatTemplate(template, variables),
      {
        bos: tokenOf('tokenizer.ggml.bos_token_id') ?? null,
        pad: tokenOf('tokenizer.ggml.padding_token_id') ?? null,
      },
    )
  }

  /**
   * Encodes text in which written-out control tokens count as control tokens. The token that begins the
   * model's prompts is put first.
   * @throws {PromptTooLongError} over `maxTokens`, after bounded work as in {@link encodeChat}
   */
  encode(text: string, options: { readonly maxTokens?: number } = {}): number[] {
    return drain(this.#encodeText(text, options.maxTokens ?? Infinity))
  }

  /** As {@link encode}, but other work can run between slices. */
  async encodeInSlices(text: string, maxTokens: number): Promise<number[]> {
    const steps = this.#encodeText(text, maxTokens)
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done) return step.value
      await setImmediate()
    }
  }

  #encodeText(text: string, maxTokens: number): Generator<void, number[]> {
    if (Buffer.byteLength(text) > maxTokens * this.#maxTokenBytes) {
      throw new PromptTooLongError(maxTokens)
    }
    return this.#encodePrompt([{ text, trusted: true }], maxTokens)
  }

  /** Encodes text of the assistant; written-out control tokens are plain text. */
  encodeLabel(text: string): number[] {
    const ids: number[] = []
    // The generator appends to ids; its pauses are not used.
    Array.from(this.#vocabulary.encoder.encode(text, Infinity, ids, false))
    return ids
  }

  /** Null for a model without a chat template. */
  get templateSource(): string | null {
    return this.#template?.source ?? null
  }

  /**
   * The prompt's text, up to where the assistant's answer begins.
   * @throws {NoChatTemplateError}
   */
  renderChat(messages: readonly ChatMessage[], functions: readonly ToolFunction[] = []): string {
    return this.#chatTemplate().render(messages, functions)
  }

  /** What the chat template does with functions. */
  get toolSupport(): ToolSupport {
    return this.#template?.toolSupport ?? GENERIC_TOOLS
  }

  /**
   * Encodes a chat's prompt. The ids are those of `encode(renderChat(messages, functions))`, but control
   * tokens that a message, a call or a function writes out stay plain text.
   * @throws {PromptTooLongError} over `maxTokens`. The work is bounded by maxTokens, however long the
   *   text: no token is longer than maxTokenBytes (81 for SmolLM2), so a text of over maxTokens ×
   *   maxTokenBytes bytes is refused unread (bytes that the vocabulary drops count too), and encoding
   *   stops at the first slice with a token too many
   * @throws {NoChatTemplateError}
   */
  encodeChat(
    messages: readonly ChatMessage[],
    options: { readonly maxTokens?: number; readonly functions?: readonly ToolFunction[] } = {},
  ): number[] {
    const template = this.#chatTemplate()
    const { maxTokens = Infinity, functions = [] } = options
    const contentBytes = messages.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0)
    const functionBytes = functions.length === 0 ? 0 : JSON.stringify(functions).length
    if (contentBytes + functionBytes > maxTokens * this.#maxTokenBytes)
      throw new PromptTooLongError(maxTokens)
    const segments = template.segments(messages, functions, (text) => this.#namesControl(text))
    return drain(this.#encodePrompt(segments, maxTokens))
  }

  #namesControl(text: string): boolean {
    for (const part of this.#specials.split(text)) if (typeof part === 'number') return true
    return false
  }

  decode(ids: readonly number[]): string {
    const detokenizer = this.createDetokenizer()
    return ids.map((id) => detokenizer.push(id)).join('') + detokenizer.flush()
  }

  /** As {@link createDetokenizer}, but control tokens yield their names. */
  createVerbatimDetokenizer(): Detokenizer {
    return new Detokenizer(this.#shownBytesOfId)
  }

  /** A token's bytes, which may be part of a character; for a control token, its name. */
  bytesOf(id: number): Uint8Array {
    const bytes = this.#shownBytesOfId[id]
    if (!bytes) throw new RangeError(`the vocabulary has no token ${id}`)
    return bytes
  }

  /** The bytes of text that a token stands for; null for control tokens, which stand for none. */
  textBytesOf(id: number): Uint8Array | null {
    return this.#vocabulary.bytesOfId[id] ?? null
  }

  /** @param shown control tokens that yield their names: in some files, those around a call */
  createDetokenizer(shown: readonly string[] = []): Detokenizer {
    const { bytesOfId, specialIds } = this.#vocabulary
    const ids = shown.map((name) => specialIds.get(name)).filter((id) => id !== undefined)
    if (ids.length === 0) return new Detokenizer(bytesOfId)
    const bytes = [...bytesOfId]
    for (const id of ids) bytes[id] = this.#shownBytesOfId[id]
    return new Detokenizer(bytes)
  }

  #chatTemplate(): ChatTemplate {
    if (this.#template === null) throw new NoChatTemplateError()
    return this.#template
  }

  /**
   * Control tokens cut the text into sections, and merges never cross them. Template text and the
   * contents beside it are therefore encoded as one section, as they would be in the whole text.
   */
  *#encodePrompt(segments: readonly PromptSegment[], maxTokens: number): Generator<void, number[]> {
    const { beginId, encoder, tokens } = this.#vocabulary
    const ids: number[] = []
    const [first] = segments
    // A template or caller may write the first token itself; it must not stand there twice.
    if (beginId !== null && !(first?.trusted && first.text.startsWith(tokens[beginId]!))) {
      ids.push(beginId)
    }
    let section = ''
    function* endSection(): Generator<void> {
      if (section !== '') yield* encoder.encode(section, maxTokens, ids, true)
      section = ''
    }
    for (const { text, trusted } of segments) {
      if (!trusted) {
        section += text
        continue
      }
      for (const part of this.#specials.split(text)) {
        if (typeof part === 'string') {
          section += part
        } else {
          yield* endSection()
          ids.push(part)
        }
      }
    }
    yield* endSection()
    if (ids.length > maxTokens) throw new PromptTooLongError(maxTokens)
    return ids
  }
}

/** Runs a generator to its end without pauses. */
function drain<T>(steps: Generator<void, T>): T {
  for (let step = steps.next(); ; step = steps.next()) if (step.done) return step.value
}
