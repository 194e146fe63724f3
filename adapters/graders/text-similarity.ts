/** The metrics of OpenAI's `text_similarity` that need no second model and no dictionary. */
export const SIMILARITY_METRICS = [
  'fuzzy_match',
  'gleu',
  'rouge_1',
  'rouge_2',
  'rouge_3',
  'rouge_4',
  'rouge_5',
  'rouge_l',
] as const
export type SimilarityMetric = (typeof SIMILARITY_METRICS)[number]

/** Longer texts are cut, because the edit distance takes time proportional to the lengths' product. */
export const MAX_COMPARED_CHARS = 2048
const MAX_GLEU_LEN = 4

/**
 * Similarity of a text to a reference. Words are runs of letters and digits, without regard to case;
 * `fuzzy_match` compares characters.
 *
 * - `fuzzy_match`: 1 − edits / total length, where edits are insertions and deletions
 * - `rouge_N`: F1 of shared runs of N words; `rouge_l`: F1 of the longest common subsequence
 * - `gleu`: the smaller of precision and recall over all runs of 1 to 4 words
 *
 * If neither text has a run of the metric's length, the similarity is 1 for equal texts, else 0.
 * @returns 0 to 1; 1 is most similar
 * Sources: Lin 2004 (ROUGE); Wu et al. 2016, arXiv:1609.08144 (GLEU)
 */
export function textSimilarity(text: string, reference: string, metric: SimilarityMetric): number {
  const [a, b] = [text.slice(0, MAX_COMPARED_CHARS), reference.slice(0, MAX_COMPARED_CHARS)]
  if (metric === 'fuzzy_match') {
    const [left, right] = [Array.from(a), Array.from(b)]
    const total = left.length + right.length
    return total === 0 ? 1 : (2 * commonLen(left, right)) / total
  }
  const [left, right] = [wordsOf(a), wordsOf(b)]
  if (metric === 'rouge_l') {
    return f1(commonLen(left, right), left.length, right.length, left.join(' ') === right.join(' '))
  }
  const sizes = metric === 'gleu' ? [1, MAX_GLEU_LEN] : [Number(metric.slice('rouge_'.length))]
  const [ofText, ofReference] = [left, right].map((words) =>
    runsOf(words, sizes[0]!, sizes.at(-1)!),
  )
  const shared = countShared(ofText!, ofReference!)
  const [numText, numReference] = [countAll(ofText!), countAll(ofReference!)]
  const isEqual = left.join(' ') === right.join(' ')
  if (metric !== 'gleu') return f1(shared, numText, numReference, isEqual)
  const most = Math.max(numText, numReference)
  return most === 0 ? Number(isEqual) : shared / most
}

const wordsOf = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []

function f1(shared: number, numText: number, numReference: number, isEqual: boolean): number {
  const total = numText + numReference
  return total === 0 ? Number(isEqual) : (2 * shared) / total
}

/** Counts each run of `shortest` to `longest` words. */
function runsOf(words: readonly string[], shortest: number, longest: number): Map<string, number> {
  const counts = new Map<string, number>()
  for (let size = shortest; size <= longest; size++) {
    for (let at = 0; at + size <= words.length; at++) {
      const run = words.slice(at, at + size).join(' ')
      counts.set(run, (counts.get(run) ?? 0) + 1)
    }
  }
  return counts
}

const countAll = (counts: ReadonlyMap<string, number>): number =>
  [...counts.values()].reduce((sum, count) => sum + count, 0)

function countShared(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  let shared = 0
  for (const [run, count] of a) shared += Math.min(count, b.get(run) ?? 0)
  return shared
}

/** Length of the longest common subsequence. */
function commonLen(a: readonly string[], b: readonly string[]): number {
  const numbers = new Map<string, number>()
  const numbered = (items: readonly string[]): Int32Array =>
    Int32Array.from(items, (item) => {
      const known = numbers.get(item) ?? numbers.size
      numbers.set(item, known)
      return known
    })
  const [left, right] = [numbered(a), numbered(b)]
  // One row of the table; `diagonal` is the entry to the upper left, which the row has overwritten.
  const row = new Int32Array(right.length + 1)
  for (const item of left) {
    let diagonal = 0
    for (let j = 1; j <= right.length; j++) {
      const above = row[j]!
      row[j] = right[j - 1] === item ? diagonal + 1 : Math.max(above, row[j - 1]!)
      diagonal = above
    }
  }
  return row[right.length]!
}
