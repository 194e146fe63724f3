/**
 * Finds pairs of labels that a reader may take for one label. They differ only in case, in white
 * space, in invisible characters, or in how a letter and its accent are encoded.
 * @returns each pair as JSON texts; if the two look exactly the same, all characters outside ASCII
 * are written as escapes
 */
export function findSimilarLabels(labels: readonly string[]): (readonly [string, string])[] {
  const firsts = new Map<string, string>()
  return labels.flatMap((label) => {
    const seen = lookOf(label)
    const key = seen.toLowerCase()
    const first = firsts.get(key)
    if (first === undefined) {
      firsts.set(key, label)
      return []
    }
    const spell = lookOf(first) === seen ? spellOut : JSON.stringify
    return first === label ? [] : [[spell(first), spell(label)] as const]
  })
}

/** A label as a reader sees it. */
const lookOf = (label: string): string =>
  label
    .normalize('NFKC')
    .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
    .replace(/\s+/g, ' ')
    .trim()

/** JSON with escapes for all characters outside ASCII. */
const spellOut = (label: string): string =>
  JSON.stringify(label).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
