/** A prompt is longer than allowed. This may be found before all of it is encoded. */
export class PromptTooLongError extends Error {
  override readonly name = 'PromptTooLongError'

  constructor(max: number, unit = 'tokens') {
    super(`the prompt is longer than ${max} ${unit}`)
  }
}

/** Encodes text between control tokens; there is one for each kind of vocabulary. */
export interface SectionEncoder {
  /**
   * Appends the text's ids to `ids`. It yields every few milliseconds, so that a caller can let other
   * work run.
   * @param ids ids encoded so far, which count towards `maxTokens`
   * @param startsText whether the prompt's start or a control token comes before the text
   * @throws {PromptTooLongError} more than `maxTokens` ids in all
   */
  encode(text: string, maxTokens: number, ids: number[], startsText: boolean): Iterable<void>
}

/**
 * Cuts text into slices that end at breaks, across which nothing merges.
 * @param findBreak finds the first break at or after a position, or -1
 * @param minUnits least UTF-16 units of a slice, apart from the last
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
