import { z } from 'zod'

const textPartSchema = z.strictObject({
  type: z.literal('text', { error: 'only text parts are supported' }),
  text: z.string(),
})

/** The most parts of one message: as many as a chat may have messages. */
const MAX_TEXT_PARTS = 2048

/**
 * Reads a text: a string, or parts, which it joins as they stand.
 * @param types the values that a part's `type` may have
 */
export const textContentOf = (
  partSchema: z.ZodType<{ readonly text: string }>,
  types: readonly string[],
) =>
  z
    .unknown()
    .transform((value, context): string => {
      if (typeof value === 'string') return value
      if (!Array.isArray(value) || value.length === 0 || value.length > MAX_TEXT_PARTS) {
        const message = `must be a string or an array of 1 to ${MAX_TEXT_PARTS} text parts`
        context.addIssue({ code: 'custom', message })
        return z.NEVER
      }
      let text = ''
      for (const [i, item] of value.entries()) {
        const part = partSchema.safeParse(item)
        if (!part.success) {
          // It reports the first faulty part only: a body has room for hundreds of thousands.
          for (const { message, path } of part.error.issues) {
            context.addIssue({ code: 'custom', message, path: [i, ...path] })
          }
          return z.NEVER
        }
        text += part.data.text
      }
      return text
    })
    .meta({ anyOf: [{ type: 'string' }, textParts(types)] })

/** The JSON Schema of an array of parts, which zod cannot derive from the reader. */
const textParts = (types: readonly string[]) => ({
  type: 'array',
  minItems: 1,
  maxItems: MAX_TEXT_PARTS,
  items: {
    type: 'object',
    properties: { type: { enum: types }, text: { type: 'string' } },
    required: ['type', 'text'],
  },
})

/** The content of a chat's message. */
export const textContentSchema = textContentOf(textPartSchema, ['text'])
