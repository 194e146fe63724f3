import { createHash } from 'node:crypto'

/** What must be equal, besides the tokens, for two prompts to share KV. */
export type PrefixOwner = {
  readonly tenant: string
  readonly buildDigest: string
  /** '' for the base model; else the ordered (adapter digest, weight) list that rotates the prompt. */
  readonly rotation: string
}

/**
 * Keys of a prompt's chunks. Each key is the SHA-256 of the key before it and the chunk's tokens, so it
 * stands for the owner and every token up to the chunk's end.
 * @param chunks [start, end) in order, the first from 0, without gaps
 */
export function prefixKeys(
  { tenant, buildDigest, rotation }: PrefixOwner,
  ids: readonly number[],
  chunks: readonly (readonly [number, number])[],
): string[] {
  let last = createHash('sha256')
    .update(JSON.stringify([tenant, buildDigest, rotation]))
    .digest()
  return chunks.map(([start, end]) => {
    last = createHash('sha256')
      .update(last)
      .update(Uint32Array.from(ids.slice(start, end)))
      .digest()
    return last.toString('hex')
  })
}
