import { createHash } from 'node:crypto'

/** What must be equal for two prompts' KV to be shared, beside their tokens. */
export type PrefixOwner = {
  readonly tenant: string
  readonly buildDigest: string
  /** '' for the base model; else the ordered (adapter digest, weight) list that turns the prompt. */
  readonly rotation: string
}

/**
 * Keys of a prompt's chunks: each is a SHA-256 over the owner and every token up to the chunk's end,
 * as a chain of one digest a chunk.
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
