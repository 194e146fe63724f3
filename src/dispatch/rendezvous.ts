/** FNV-1a over UTF-16 code units, with its bits mixed once more. @returns 32 bits, unsigned */
export function hash32(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return mix(hash)
}

/**
 * Puts nodes in an order that depends on the key alone: each key has its own order, all orders are
 * about equally frequent, and a node that comes or goes leaves the order of the others as it was.
 * @returns each node's place in the key's order, from 0, in the order of `nodes`
 * Source: Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates"
 */
export function rendezvousRanks(key: string, nodes: readonly string[]): number[] {
  const keyHash = hash32(key)
  const weights = nodes.map((node) => mix(keyHash ^ Math.imul(hash32(node), 0x9e3779b1)))
  return weights.map((weight) => weights.filter((other) => other > weight).length)
}

/** The finaliser of MurmurHash3: each bit of the input changes about half of the output's. */
function mix(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
