import { z } from 'zod'

export const MAX_METADATA_KEYS = 16

/** A caller's own notes on a job or an answer. */
export const metadataSchema = z
  .record(z.string().max(64), z.string().max(512))
  .refine(
    (metadata) => Object.keys(metadata).length <= MAX_METADATA_KEYS,
    `must have at most ${MAX_METADATA_KEYS} keys`,
  )
