/** A new id that cannot be guessed, as in `proj_…`. */
export const createId = (prefix: string): string =>
  `${prefix}_${crypto.randomUUID().replaceAll('-', '')}`
