import { z } from 'zod'

/** An integer past these has lost digits when it was read. */
const isExact = (value: number): boolean => !Number.isInteger(value) || Number.isSafeInteger(value)

/** A label's text: JSON numbers and booleans are taken for what JavaScript writes of them. */
export const labelTextSchema = z
  .union(
    [
      z.string(),
      z.boolean(),
      z.number().refine(isExact, 'must be a string: the number has too many digits'),
    ],
    { error: 'must be a string, a number or a boolean' },
  )
  .transform(String)
