import type { LibraryTokenizer } from './library.ts'
import { mergePairs } from './merge-pairs.ts'
import { PromptTooLongError, sliceAtBreaks, type SectionEncoder } from './section-encoder.ts'
import { TokenTrie } from './token-trie.ts'

/** Least UTF-16 units of text that are cut into words at a time; the cut is at the next break. */
const SLICE_UNITS = 1024
/** Words merged between two steps, in a slice that is long because it has no breaks. */
const STEP_WORDS = 512
/** The library merges a word without a pause. A word of this many bytes is merged here, in steps. */
const LONG_WORD_BYTES = 2048
/** Longest slice: cutting one into words has no pause, and would delay other work. */
const MAX_SLICE_UNITS = 20_480
/** From this length on, it is worth walking the vocabulary for a lower bound of a word's tokens. */
const BOUNDED_WORD_BYTES = 4096
/**
 * Where a slice may end. In no pattern of PRE_TOKENIZERS does a word go on after a digit, after a letter
 * that no letter follows, from a punctuation mark to a space, or from a line of punctuation to the next.
 * None of them looks behind.
 */
const BREAK =
  /\p{N}|\p{L}(?!\p{L})|[!-/:-@[-`{-~](?=[ \t])|(?<=[!-/:-@[-`{-~])\n(?=[!-/:-@[-`{-~])/gu

export interface ByteLevelVocabulary {
  readonly tokens: readonly string[]
  /** Pairs that merge, each with a space in between, the most urgent first. */
  readonly merges: readonly string[]
  /** Tokens that are cut out of text before anything merges. */
  readonly userDefinedIds: ReadonlyMap<string, number>
}

/** Byte-level BPE: a pattern cuts text into words, and each word's bytes are merged. */
export class ByteLevelEncoder implements SectionEncoder {
  readonly #tokenizer: LibraryTokenizer
  readonly #vocabulary: ByteLevelVocabulary
  readonly #userDefined: TokenTrie
  #rankOfMerge: ReadonlyMap<string, number> | undefined

  constructor(tokenizer: LibraryTokenizer, vocabulary: ByteLevelVocabulary) {
    this.#tokenizer = tokenizer
    this.#vocabulary = vocabulary
    this.#userDefined = new TokenTrie(vocabulary.userDefinedIds)
  }

  *encode(text: string, maxTokens: number, ids: number[]): Generator<void> {
    for (const part of this.#userDefined.split(text)) {
      if (typeof part === 'number') {
        ids.push(part)
      } else {
        for (const slice of sliceAtBreaks(part, (from) => findBreak(part, from), SLICE_UNITS)) {
          yield* this.#encodeSlice(slice, maxTokens, ids)
          yield
        }
      }
      if (ids.length > maxTokens) throw new PromptTooLongError(maxTokens)
    }
  }

  *#encodeSlice(slice: string, maxTokens: number, ids: number[]): Generator<void> {
    if (slice.length > MAX_SLICE_UNITS) {
      const unit = 'characters without a break between words or digits'
      throw new PromptTooLongError(MAX_SLICE_UNITS, unit)
    }
    const { pre_tokenizer: preTokenizer, model } = this.#tokenizer
    for (const [i, word] of preTokenizer(slice).entries()) {
      if (i % STEP_WORDS === STEP_WORDS - 1) yield
      // A word has one character for each byte.
      if (word.length < LONG_WORD_BYTES) {
        for (const token of model([word])) ids.push(model.tokens_to_ids.get(token)!)
      } else {
        if (ids.length + this.#minTokens(word, maxTokens) > maxTokens) {
          throw new PromptTooLongError(maxTokens)
        }
        yield* this.#mergeLongWord(word, ids)
      }
      if (ids.length > maxTokens) throw new PromptTooLongError(maxTokens)
    }
  }

  *#mergeLongWord(word: string, ids: number[]): Generator<void> {
    const { merges } = this.#vocabulary
    const ranks = (this.#rankOfMerge ??= new Map(merges.map((merge, rank) => [merge, rank])))
    const starts = yield* mergePairs(word, (start, middle, end) => {
      const rank = ranks.get(`${word.slice(start, middle)} ${word.slice(middle, end)}`)
      return rank === undefined ? undefined : -rank
    })
    for (const [i, start] of starts.entries()) {
      const id = this.#tokenizer.model.tokens_to_ids.get(word.slice(start, starts[i + 1]))
      // A byte that the vocabulary lacks is dropped, as the library does.
      if (id !== undefined) ids.push(id)
    }
  }

  /** A lower bound of a word's tokens; only computed where merging the word would be slow. */
  #minTokens(word: string, maxTokens: number): number {
    if (word.length < BOUNDED_WORD_BYTES || maxTokens === Infinity) return 0
    const chars = new Set(word)
    let longest = 1
    for (const token of this.#vocabulary.tokens) {
      if (token.length > longest && Array.from(token).every((char) => chars.has(char))) {
        longest = token.length
      }
    }
    return word.length / longest
  }
}

function findBreak(text: string, from: number): number {
  BREAK.lastIndex = from
  return BREAK.test(text) ? BREAK.lastIndex : -1
}
