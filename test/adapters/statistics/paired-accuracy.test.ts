/** References: fixtures/make-paired-accuracy.py, with its versions in fixtures/paired-accuracy.json. */
import { readFileSync } from 'node:fs'
import { describe, it } from 'vitest'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { accuracyDifferenceInterval } from '../../../adapters/statistics/bootstrap.ts'
import { holmAdjust, mcnemarTest } from '../../../adapters/statistics/mcnemar.ts'

type Pair = { readonly won: number; readonly lost: number }
const REFERENCE = JSON.parse(
  readFileSync(new URL('fixtures/paired-accuracy.json', import.meta.url), 'utf8'),
) as {
  readonly mcnemar: readonly (Pair & { readonly p: number })[]
  readonly holm: readonly { readonly p: number[]; readonly adjusted: number[] }[]
  readonly intervals: readonly (Pair & {
    readonly count: number
    readonly interval: readonly [number, number]
  })[]
}

describe('McNemar’s exact test', () => {
  it('has the p-values of statsmodels', ({ expect }) => {
    for (const { won, lost, p } of REFERENCE.mcnemar) {
      expect(mcnemarTest(won, lost) / p, `${won}, ${lost}`).toBeCloseTo(1, 9)
      expect(mcnemarTest(lost, won)).toBe(mcnemarTest(won, lost))
    }
  })

  it('refuses what is no count', ({ expect }) => {
    expect(() => mcnemarTest(-1, 2)).toThrow(RangeError)
    expect(() => mcnemarTest(1, 0.5)).toThrow(RangeError)
  })
})

describe('Holm’s adjustment', () => {
  it('has the p-values of statsmodels', ({ expect }) => {
    for (const { p, adjusted } of REFERENCE.holm) {
      const own = holmAdjust(p)
      expect(own).toHaveLength(adjusted.length)
      own.forEach((value, i) => {
        expect(value).toBeCloseTo(adjusted[i]!, 12)
      })
    }
    expect(holmAdjust([])).toEqual([])
  })
})

describe('the bootstrap interval of a difference in accuracy', () => {
  it('is that of SciPy, to the error of 2,000 resamples', ({ expect }) => {
    for (const { won, lost, count, interval } of REFERENCE.intervals) {
      const own = accuracyDifferenceInterval(won, lost, count)!
      // An end moves in steps of one example.
      own.forEach((end, i) => {
        expect(Math.abs(end - interval[i]!), `${won}, ${lost} of ${count}`).toBeLessThanOrEqual(
          1 / count + 1e-9,
        )
      })
      expect(accuracyDifferenceInterval(won, lost, count)).toEqual(own)
    }
  })

  it('holds the true difference in 93 to 97 of 100 files', ({ expect }) => {
    const rng = createRng(3, 1)
    const [wins, losses, numExamples, numFiles] = [0.25, 0.12, 100, 1_000]
    let numHeld = 0
    for (let file = 0; file < numFiles; file++) {
      let [won, lost] = [0, 0]
      for (let i = 0; i < numExamples; i++) {
        const place = rng.uniform()
        if (place < wins) won += 1
        else if (place < wins + losses) lost += 1
      }
      const [low, high] = accuracyDifferenceInterval(won, lost, numExamples)!
      if (low <= wins - losses && wins - losses <= high) numHeld += 1
    }
    expect(numHeld / numFiles).toBeGreaterThanOrEqual(0.93)
    expect(numHeld / numFiles).toBeLessThanOrEqual(0.97)
  })

  it('is unknown where no example differs', ({ expect }) => {
    expect(accuracyDifferenceInterval(0, 0, 30)).toBeNull()
    expect(() => accuracyDifferenceInterval(0, 0, 0)).toThrow(RangeError)
    expect(() => accuracyDifferenceInterval(20, 11, 30)).toThrow(RangeError)
  })
})
