/** The state between characters. */
export const UTF8_START = 0
const REJECTED = -1

/**
 * For each state, ranges of the next byte and the state after it: [from, to, state]. A state says which
 * continuation bytes are still to come.
 */
const STEPS: readonly (readonly (readonly [number, number, number])[])[] = [
  [
    [0x00, 0x7f, 0],
    [0xc2, 0xdf, 1],
    [0xe0, 0xe0, 2],
    [0xe1, 0xec, 3],
    [0xed, 0xed, 4],
    [0xee, 0xef, 3],
    [0xf0, 0xf0, 5],
    [0xf1, 0xf3, 6],
    [0xf4, 0xf4, 7],
  ],
  [[0x80, 0xbf, 0]],
  [[0xa0, 0xbf, 1]],
  [[0x80, 0xbf, 1]],
  [[0x80, 0x9f, 1]],
  [[0x90, 0xbf, 3]],
  [[0x80, 0xbf, 3]],
  [[0x80, 0x8f, 3]],
]

/**
 * Reads bytes as UTF-8 from a state on.
 * @returns the state after them; null where no well-formed text continues with them
 * Source: Unicode 16, table 3-7, well-formed byte sequences
 */
function readUtf8(state: number, bytes: Uint8Array): number | null {
  let now = state
  for (const byte of bytes) {
    now = STEPS[now]!.find(([from, to]) => byte >= from && byte <= to)?.[2] ?? REJECTED
    if (now === REJECTED) return null
  }
  return now
}

/**
 * For each state, the tokens that continue as well-formed UTF-8. XGrammar's character classes (0.1.27)
 * take any continuation bytes after any leading byte, so overlong forms and surrogates are barred here.
 */
export class Utf8Masks {
  readonly #bytesOfId: readonly Uint8Array[]
  readonly #masks: (Int32Array | undefined)[] = []

  constructor(bytesOfId: readonly Uint8Array[]) {
    this.#bytesOfId = bytesOfId
  }

  /** @returns a bit for each token, [ceil(vocab / 32)] */
  of(state: number): Int32Array {
    return (this.#masks[state] ??= this.#compute(state))
  }

  after(state: number, id: number): number {
    return readUtf8(state, this.#bytesOfId[id]!) ?? UTF8_START
  }

  #compute(state: number): Int32Array {
    const mask = new Int32Array(Math.ceil(this.#bytesOfId.length / 32))
    for (const [id, bytes] of this.#bytesOfId.entries()) {
      if (readUtf8(state, bytes) !== null) mask[id >> 5]! |= 1 << (id & 31)
    }
    return mask
  }
}
