import { mergePairs } from './merge-pairs.ts'
import { PromptTooLongError, sliceAtBreaks, type SectionEncoder } from './section-encoder.ts'
import { TokenTrie } from './token-trie.ts'

/** What SentencePiece writes a space as. */
export const SPACE_MARK = '\u2581'

/** UTF-16 units of text that merge at a time, where it has a break. */
const SLICE_UNITS = 2048

export interface SentencePieces {
  /** Pieces that text can merge into, by their text with spaces as marks. */
  readonly pieceIds: ReadonlyMap<string, number>
  /** By id. */
  readonly scores: readonly number[]
  /** The id of each byte, for characters that no piece spells. */
  readonly byteIds: readonly number[]
  /** Tokens that are found in text before anything merges. */
  readonly userDefinedIds: ReadonlyMap<string, number>
  /** A space is put before text that starts a prompt or follows a token cut out of it. */
  readonly addsSpacePrefix: boolean
}

/**
 * SentencePiece's BPE by scores: of all neighbours whose text together is a piece, those of the
 * highest score merge, the leftmost of equals, until none can.
 * Source: sentencepiece src/bpe_model.cc; llama.cpp src/llama-vocab.cpp, llm_tokenizer_spm
 */
export class SentencePieceEncoder implements SectionEncoder {
  readonly #pieces: SentencePieces
  readonly #userDefined: TokenTrie
  /** What stands before a space within a piece: a space after anything else begins a new one. */
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
