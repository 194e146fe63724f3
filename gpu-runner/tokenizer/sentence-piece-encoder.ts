import { PromptTooLongError, type SectionEncoder } from './section-encoder.ts'
import { TokenTrie } from './token-trie.ts'

/** What SentencePiece writes a space as. */
export const SPACE_MARK = '\u2581'

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

  constructor(pieces: SentencePieces) {
    this.#pieces = pieces
    this.#userDefined = new TokenTrie(pieces.userDefinedIds)
  }

  encode(text: string, maxTokens: number, ids: number[], startsText: boolean): void {
    let startsStretch = startsText
    for (const part of this.#userDefined.split(text)) {
      if (typeof part === 'number') {
        ids.push(part)
        startsStretch = true
      } else {
        const prefix = this.#pieces.addsSpacePrefix && startsStretch ? ' ' : ''
        this.#merge((prefix + part).replaceAll(' ', SPACE_MARK), ids)
        startsStretch = false
      }
      if (ids.length > maxTokens) throw new PromptTooLongError(maxTokens)
    }
  }

  #merge(text: string, ids: number[]): void {
    const { pieceIds, scores } = this.#pieces
    // Symbols are stretches [start, end) of the text, linked to their neighbours; a merged one's
    // right half stays behind as an empty stretch.
    const start: number[] = []
    const end: number[] = []
    for (let at = 0; at < text.length;) {
      const size = text.codePointAt(at)! > 0xffff ? 2 : 1
      start.push(at)
      end.push(at + size)
      at += size
    }
    const numSymbols = start.length
    const previous = Int32Array.from(start, (_, i) => i - 1)
    const next = Int32Array.from(start, (_, i) => (i + 1 < numSymbols ? i + 1 : -1))
    const queue = new MergeQueue()
    const consider = (left: number, right: number): void => {
      if (left < 0 || right < 0) return
      const id = pieceIds.get(text.slice(start[left], end[right]))
      if (id !== undefined) queue.push({ score: scores[id]!, left, right, end: end[right]! })
    }
    for (let i = 1; i < numSymbols; i++) consider(i - 1, i)
    for (let merge = queue.pop(); merge; merge = queue.pop()) {
      const { left, right } = merge
      // Either half may have merged elsewhere since.
      if (next[left] !== right || end[right] !== merge.end) continue
      end[left] = merge.end
      end[right] = start[right]!
      next[left] = next[right]!
      if (next[left] >= 0) previous[next[left]] = left
      next[right] = -1
      consider(previous[left]!, left)
      consider(left, next[left])
    }
    for (let i = numSymbols > 0 ? 0 : -1; i >= 0; i = next[i]!) {
      this.#append(text.slice(start[i], end[i]), ids)
    }
  }

  #append(piece: string, ids: number[]): void {
    const id = this.#pieces.pieceIds.get(piece)
    if (id !== undefined) ids.push(id)
    else for (const byte of new TextEncoder().encode(piece)) ids.push(this.#pieces.byteIds[byte]!)
  }
}

type Merge = {
  readonly score: number
  readonly left: number
  readonly right: number
  /** Where the right half ended when this was queued: it shows whether it has grown since. */
  readonly end: number
}

/** A binary heap: the highest score first, of equals the leftmost. */
class MergeQueue {
  readonly #heap: Merge[] = []

  push(merge: Merge): void {
    const heap = this.#heap
    heap.push(merge)
    let at = heap.length - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(merge, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = merge
  }

  pop(): Merge | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return first
  }
}

const isBefore = (a: Merge, b: Merge): boolean =>
  a.score > b.score || (a.score === b.score && a.left < b.left)
