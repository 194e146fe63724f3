/** A prompt that is longer than allowed; found before all of it was encoded. */
export class PromptTooLongError extends Error {
  override readonly name = 'PromptTooLongError'

  constructor(max: number, unit = 'tokens') {
    super(`the prompt is longer than ${max} ${unit}`)
  }
}

/** Encodes text that lies between control tokens; one kind a kind of vocabulary. */
export interface SectionEncoder {
  /**
   * Appends the text's ids, slice by slice. Between two steps lie some milliseconds of work, so that a
   * caller can let others run.
   * @param ids what is encoded already, and what `maxTokens` bounds
   * @param startsText whether a prompt's start or a control token is before it, not other text
   * @throws {PromptTooLongError} more than `maxTokens` ids in all
   */
  encode(text: string, maxTokens: number, ids: number[], startsText: boolean): Iterable<void>
}

/**
 * Cuts text into slices that end at breaks, where nothing merges.
 * @param findBreak the first break at or after a place, or -1
 * @param minUnits UTF-16 units of a slice at least, but for the last
 */
export function* sliceAtBreaks(
  text: string,
  findBreak: (from: number) => number,
  minUnits: number,
): Generator<string> {
  for (let at = 0; at < text.length;) {
    const found = at + minUnits < text.length ? findBreak(at + minUnits) : -1
    const end = found < 0 ? text.length : found
    yield text.slice(at, end)
    at = end
  }
}
