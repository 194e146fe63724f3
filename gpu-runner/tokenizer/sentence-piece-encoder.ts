import { mergePairs } from './merge-pairs.ts'
import { PromptTooLongError, sliceAtBreaks, type SectionEncoder } from './section-encoder.ts'
import { TokenTrie } from './token-trie.ts'

/** SentencePiece's character for a space. */
export const SPACE_MARK = '\u2581'

/** Least UTF-16 units of text that are merged at a time; the cut is at the next break. */
const SLICE_UNITS = 2048

export interface SentencePieces {
  /** Pieces that text can merge into, by their text, in which marks stand for spaces. */
  readonly pieceIds: ReadonlyMap<string, number>
  /** Each piece's score, by id. */
  readonly scores: readonly number[]
  /** The id of each byte, for characters that no piece spells. */
  readonly byteIds: readonly number[]
  /** Tokens that are cut out of text before anything merges. */
  readonly userDefinedIds: ReadonlyMap<string, number>
  /** Whether a space is put before text that starts a prompt or follows a token cut out of it. */
  readonly addsSpacePrefix: boolean
}

/**
 * SentencePiece's BPE by scores. Of all neighbours whose joined text is a piece, the pair of the highest
 * score merges, of equal ones the leftmost, until no pair can.
 * Source: sentencepiece src/bpe_model.cc; llama.cpp src/llama-vocab.cpp, llm_tokenizer_spm
 */
export class SentencePieceEncoder implements SectionEncoder {
  readonly #pieces: SentencePieces
  readonly #userDefined: TokenTrie
  /**
   * Characters that stand before a space within some piece. A space after any other begins a new
   * piece.
   */
  readonly #beforeSpaces: ReadonlySet<string>

  constructor(pieces: SentencePieces) {
    this.#pieces = pieces
    this.#userDefined = new TokenTrie(pieces.userDefinedIds)
    const before = new Set<string>([SPACE_MARK])
    for (const piece of pieces.pieceIds.keys()) {
      for (let at = piece.indexOf(SPACE_MARK, 1); at > 0; at = piece.indexOf(SPACE_MARK, at + 1)) {
        before.add(piece.charAt(at - 1))
      }
    }
    this.#beforeSpaces = before
  }

  *encode(text: string, maxTokens: number, ids: number[], startsText: boolean): Generator<void> {
    let startsStretch = startsText
    for (const part of this.#userDefined.split(text)) {
      if (typeof part === 'number') {
        ids.push(part)
        startsStretch = true
      } else {
        const prefix = this.#pieces.addsSpacePrefix && startsStretch ? ' ' : ''
        const marked = (prefix + part).replaceAll(' ', SPACE_MARK)
        for (const slice of sliceAtBreaks(
          marked,
          (at) => this.#findBreak(marked, at),
          SLICE_UNITS,
        )) {
          yield* this.#merge(slice, ids)
          if (ids.length > maxTokens) throw new PromptTooLongError(maxTokens)
          yield
        }
        startsStretch = false
      }
      if (ids.length > maxTokens) throw new PromptTooLongError(maxTokens)
    }
  }

  #findBreak(text: string, from: number): number {
    for (let at = text.indexOf(SPACE_MARK, from); at >= 0; at = text.indexOf(SPACE_MARK, at + 1)) {
      if (!this.#beforeSpaces.has(text.charAt(at - 1))) return at
    }
    return -1
  }

  *#merge(text: string, ids: number[]): Generator<void> {
    const { pieceIds, scores } = this.#pieces
    const starts = yield* mergePairs(text, (start, _, end) => {
      const id = pieceIds.get(text.slice(start, end))
      return id === undefined ? undefined : scores[id]
    })
    for (const [i, start] of starts.entries()) this.#append(text.slice(start, starts[i + 1]), ids)
  }

  #append(piece: string, ids: number[]): void {
    const id = this.#pieces.pieceIds.get(piece)
    if (id !== undefined) ids.push(id)
    else for (const byte of new TextEncoder().encode(piece)) ids.push(this.#pieces.byteIds[byte]!)
  }
}
