/**
 * Turns ids into text as they come. A character that is split over tokens appears with the last of them.
 * Control tokens yield no text.
 */
export class Detokenizer {
  readonly #bytesOfId: readonly (Uint8Array | undefined)[]
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })

  constructor(bytesOfId: readonly (Uint8Array | undefined)[]) {
    this.#bytesOfId = bytesOfId
  }

  /** @returns the text completed by this token; '' inside a multi-byte character */
  push(id: number): string {
    const bytes = this.#bytesOfId[id]
    return bytes ? this.#decoder.decode(bytes, { stream: true }) : ''
  }

  /** @returns U+FFFD for an incomplete character, else ''. Afterwards a new text can begin. */
  flush(): string {
    return this.#decoder.decode()
  }
}
