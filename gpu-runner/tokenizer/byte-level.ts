/**
 * GPT-2's printable character for each byte, in which byte-level vocabularies are written.
 * Source: openai/gpt-2 src/encoder.py, bytes_to_unicode
 */
const CHAR_OF_BYTE: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(printable(byte) ? byte : next++),
  )
})()

const BYTE_OF_CHAR: ReadonlyMap<string, number> = new Map(
  CHAR_OF_BYTE.map((char, byte) => [char, byte]),
)

/**
 * The bytes that a vocabulary entry stands for; null where it is not written in byte-level
 * characters.
 */
export function bytesOfToken(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHAR.get(token.charAt(i))
    if (byte === undefined) return null
    bytes[i] = byte
  }
  return bytes
}

/** Writes bytes in byte-level characters. */
export const byteLevelText = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => CHAR_OF_BYTE[byte]!).join('')
