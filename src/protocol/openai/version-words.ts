import { z } from 'zod'

const MAX_TAGS = 16
const MAX_NOTES_CHARS = 4096

/** Its owner's words for a version. They are called tags, because labels are what a task answers with. */
export const versionWords = {
  tags: z
    .array(z.string().regex(/^[\w.:/-]{1,64}$/, 'must be 1 to 64 of A-Z, a-z, 0-9 and _ . : / -'))
    .max(MAX_TAGS)
    .refine((tags) => new Set(tags).size === tags.length, 'must not repeat a tag')
    .nullish(),
  notes: z.string().max(MAX_NOTES_CHARS).nullish(),
}
