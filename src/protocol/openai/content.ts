import { z } from 'zod'

const textPartSchema = z.strictObject({
  type: z.literal('text', { error: 'only text parts are supported' }),
  text: z.string(),
})

/** A message's text: a string, or text parts, which are joined as they stand. */
export const textContentSchema = z.unknown().transform((value, context): string => {
  if (typeof value === 'string') return value
  const parts = z.array(textPartSchema).min(1).safeParse(value)
  if (parts.success) return parts.data.map((part) => part.text).join('')
  if (!Array.isArray(value)) {
    context.addIssue({ code: 'custom', message: 'must be a string or an array of text parts' })
    return z.NEVER
  }
  for (const { message, path } of parts.error.issues) {
    context.addIssue({ code: 'custom', message, path })
  }
  return z.NEVER
})
