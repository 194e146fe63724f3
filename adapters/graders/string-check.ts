export type StringOperation = 'eq' | 'ne' | 'like' | 'ilike'

/**
 * Compares a text with a reference. `eq` and `ne` compare whole texts, `like` looks for the reference
 * within the text, `ilike` does so without regard to case.
 * @returns 1 if the text passes, else 0
 * Source: OpenAI's grader `string_check`
 */
export function checkString(text: string, reference: string, operation: StringOperation): number {
  switch (operation) {
    case 'eq':
      return text === reference ? 1 : 0
    case 'ne':
      return text === reference ? 0 : 1
    case 'like':
      return text.includes(reference) ? 1 : 0
    case 'ilike':
      return text.toLowerCase().includes(reference.toLowerCase()) ? 1 : 0
  }
}
