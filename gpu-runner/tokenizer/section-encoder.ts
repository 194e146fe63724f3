/** A prompt that needs more tokens than the caller allows; found before all of it was encoded. */
export class PromptTooLongError extends Error {
  override readonly name = 'PromptTooLongError'
  readonly maxTokens: number

  constructor(maxTokens: number) {
    super(`the prompt is longer than ${maxTokens} tokens`)
    this.maxTokens = maxTokens
  }
}

/** Encodes text that lies between control tokens; one kind a kind of vocabulary. */
export interface SectionEncoder {
  /**
   * Appends the text's ids.
   * @param ids what is encoded already, and what `maxTokens` bounds
   * @param startsText whether a prompt's start or a control token is before it, not other text
   * @throws {PromptTooLongError} more than `maxTokens` ids in all
   */
  encode(text: string, maxTokens: number, ids: number[], startsText: boolean): void
}
