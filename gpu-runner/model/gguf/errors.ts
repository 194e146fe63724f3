/** A file that is not a GGUF this project can serve; the message says which part and why. */
export class GgufError extends Error {
  override readonly name = 'GgufError'
}
