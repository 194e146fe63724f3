/** OpenAI's clients send null for what they leave out. */
export function withoutNulls(body: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
}

/** Does the same to an object; leaves any other value as it is. */
export const dropNulls = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? withoutNulls(value as Record<string, unknown>)
    : value
