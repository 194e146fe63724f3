import type { LibraryTokenizer } from './library.ts'
import { mergePairs } from './merge-pairs.ts'
import { PromptTooLongError, sliceAtBreaks, type SectionEncoder } from './section-encoder.ts'
import { TokenTrie } from './token-trie.ts'

/** UTF-16 units of text that are cut into words at a time, where it has a break. */
const SLICE_UNITS = 1024
/** Words between two steps, of a slice that is long for want of breaks. */
const STEP_WORDS = 512
/** The library merges a word in one go; from this many bytes on, a word is merged in steps instead. */
const LONG_WORD_BYTES = 2048
/** A slice is cut into words in one go; one longer than this would hold others up. */
const MAX_SLICE_UNITS = 20_480
/** From this length on a word's own bound is worth a walk over the vocabulary. */
const BOUNDED_WORD_BYTES = 4096
/**
 * What ends a slice. No pattern in PRE_TOKENIZERS has a word that goes on after a digit, after a letter
 * that no letter follows, from a punctuation mark to a space, or from a line of punctuation to the next;
 * and none looks behind itself.
 */
const BREAK =
  /\p{N}|\p{L}(?!\p{L})|[!-/:-@[-`{-~](?=[ \t])|(?<=[!-/:-@[-`{-~])\n(?=[!-/:-@[-`{-~])/gu

export interface ByteLevelVocabulary {
  readonly tokens: readonly string[]
  /** Pairs that merge, with a space between them, the first the most urgent. */
  readonly merges: readonly string[]
  /** Tokens that are found in text before anything merges. */
  readonly userDefinedIds: ReadonlyMap<string, number>
}

/** Byte-level BPE: words by a pattern, then merges within each. */
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
      // A word is written one character a byte.
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

  /** A lower bound of a word's tokens, taken only where merging it would be slow. */
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
