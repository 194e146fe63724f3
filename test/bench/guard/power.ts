/** How often the guard's test would see a gain: real differences between answers, moved and resampled. */
import { fitLabelBias } from '../../../adapters/objective/label-bias.ts'
import { applyBias } from '../../../adapters/objective/label-log-probs.ts'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { GUARD_LEVEL } from '../../../adapters/guard/verdict.ts'
import { signFlipTest } from '../../../adapters/statistics/paired-test.ts'
import type { JobRecord } from './jobs.ts'

/** Gains over the labels' frequencies, nats. */
const GAINS = [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6]
const NUMBERS_OF_EXAMPLES = [20, 64, 128]
const NUM_DRAWS = 200
const STREAM = 33

export type PowerPoint = {
  readonly set: string
  readonly examples: number
  /** Nats. */
  readonly gain: number
  /** Share of the draws in which an adapter of that gain passes. */
  readonly power: number
}

/**
 * Of each set, by example of its rows that no job learnt from: how much less an adapter's log loss is
 * than that of the labels' frequencies. All are moved by one amount, so that their mean is the gain
 * asked about and their spread stays what it is on real rows; then as many are drawn as a job has
 * examples, and put to the guard's test at the level of the first of its two answers. What it leaves
 * out: that fits of more examples spread less, and that an adapter must pass against the base model too,
 * which is easier on all sets measured.
 */
export function powerCurves(records: readonly JobRecord[]): PowerPoint[] {
  const sets = [...new Set(records.map(({ set }) => set))]
  return sets.flatMap((set) => {
    const own = records.filter((record) => record.set === set && !record.isShuffled)
    const differences = own.flatMap(differencesOf)
    if (differences.length === 0) return []
    const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length
    return NUMBERS_OF_EXAMPLES.flatMap((examples) =>
      GAINS.map((gain) => {
        const rng = createRng(examples, STREAM)
        let numPassed = 0
        for (let draw = 0; draw < NUM_DRAWS; draw++) {
          const drawn = Array.from({ length: examples }, () => {
            const place = Math.floor(rng.uniform() * differences.length)
            return differences[place]! - mean + gain
          })
          if (signFlipTest(drawn) <= GUARD_LEVEL / 2) numPassed += 1
        }
        return { set, examples, gain, power: numPassed / NUM_DRAWS }
      }),
    )
  })
}

function differencesOf({ gold, own, unseen }: JobRecord): number[] {
  const served = applyBias(unseen.own, fitLabelBias(own, gold))
  const shares = unseen.gold.map(
    (label) => unseen.gold.filter((other) => other === label).length / unseen.gold.length,
  )
  return served.map((row, i) => -Math.log(shares[i]!) + row[unseen.gold[i]!]!)
}
