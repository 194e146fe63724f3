import type { RoundFit } from './options.ts'

/** A text that was drawn, as far as its choice goes. */
export type Graded = {
  /** Texts of one group answer one prompt of one candidate, and are held against each other. */
  readonly group: number
  readonly score: number
}

/**
 * The texts that a round is fitted to: of each group the best, or the best and then the worst, the
 * earliest of equals. A group of equal scores teaches nothing and is left out.
 * @returns places in `texts`, group by group
 * @throws {RangeError} a score that is not finite
 */
export function selectTexts(texts: readonly Graded[], fit: RoundFit): number[] {
  const extremes = new Map<number, { best: number; worst: number }>()
  for (const [place, { group, score }] of texts.entries()) {
    if (!Number.isFinite(score)) throw new RangeError(`a score of ${score}`)
    const known = extremes.get(group)
    if (known === undefined) {
      extremes.set(group, { best: place, worst: place })
      continue
    }
    if (score > texts[known.best]!.score) known.best = place
    if (score < texts[known.worst]!.score) known.worst = place
  }
  return [...extremes.values()].flatMap(({ best, worst }) => {
    if (texts[best]!.score === texts[worst]!.score) return []
    return fit === 'best' ? [best] : [best, worst]
  })
}
