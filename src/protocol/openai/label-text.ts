import { z } from 'zod'

/** JSON.parse drops digits of larger integers. */
const isExact = (value: number): boolean => !Number.isInteger(value) || Number.isSafeInteger(value)

/** A label's text. A JSON number or boolean stands for the text that JavaScript writes for it. */
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
