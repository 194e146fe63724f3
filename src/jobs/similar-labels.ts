/**
 * Pairs of labels that a reader takes for one: they differ in case, in spaces, in characters that
 * show nothing, or in how a letter and its accent are written.
 * @returns each pair as JSON texts; where the two look the very same, other characters than ASCII
 *   are spelt out in them
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

/** A label as it shows. */
const lookOf = (label: string): string =>
  label
    .normalize('NFKC')
    .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
    .replace(/\s+/g, ' ')
    .trim()

/** JSON of ASCII alone. */
const spellOut = (label: string): string =>
  JSON.stringify(label).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
