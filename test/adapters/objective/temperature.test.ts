import { describe, it } from 'vitest'
import { meanLogProb } from '../../../adapters/objective/label-log-probs.ts'
import {
  applyTemperature,
  fitTemperature,
  MAX_TEMPERATURE,
  MIN_TEMPERATURE,
} from '../../../adapters/objective/temperature.ts'
import { calibrationError } from '../../../adapters/statistics/classification.ts'

const logs = (rows: readonly (readonly number[])[]) => rows.map((row) => row.map(Math.log))
const SIX = logs([
  [0.9, 0.05, 0.05],
  [0.2, 0.7, 0.1],
  [0.6, 0.3, 0.1],
  [0.05, 0.15, 0.8],
  [0.98, 0.01, 0.01],
  [0.4, 0.35, 0.25],
])
const GOLD = [0, 1, 1, 2, 2, 0]

describe('a temperature', () => {
  it('is the optimum of a grid search in Python', ({ expect }) => {
    expect(fitTemperature(SIX, GOLD)).toBeCloseTo(1.7029805830487144, 4)
  })

  it('makes no loss larger, keeps every answer and sums to one', ({ expect }) => {
    const temperature = fitTemperature(SIX, GOLD)
    const cooled = applyTemperature(SIX, temperature)
    expect(meanLogProb(cooled, GOLD)).toBeGreaterThan(meanLogProb(SIX, GOLD))
    const best = (row: readonly number[]) => row.indexOf(Math.max(...row))
    expect(cooled.map(best)).toEqual(SIX.map(best))
    for (const row of cooled) {
      expect(row.reduce((sum, value) => sum + Math.exp(value), 0)).toBeCloseTo(1, 12)
    }
  })

  it('corrects predictions that are sure and often wrong', ({ expect }) => {
    // With so many examples the pull towards 1, which weighs one example, hardly matters.
    const rows = logs(Array.from({ length: 400 }, () => [0.99, 0.01]))
    const gold = rows.map((_, i) => (i % 4 === 0 ? 1 : 0))
    const cooled = applyTemperature(rows, fitTemperature(rows, gold))
    expect(calibrationError(rows, gold)).toBeGreaterThan(0.2)
    expect(calibrationError(cooled, gold)).toBeLessThan(0.02)
  })

  it('stays within bounds if all answers are right or all wrong, and never sharpens', ({
    expect,
  }) => {
    const rows = logs(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? [0.9, 0.1] : [0.8, 0.2])))
    const right = fitTemperature(rows, new Array<number>(20).fill(0))
    expect(right).toBeGreaterThanOrEqual(MIN_TEMPERATURE)
    expect(right).toBeCloseTo(1, 5)
    const wrong = fitTemperature(rows, new Array<number>(20).fill(1))
    expect(wrong).toBeGreaterThan(2)
    expect(wrong).toBeLessThanOrEqual(MAX_TEMPERATURE)
  })

  it('is pulled towards 1 more strongly with fewer examples', ({ expect }) => {
    const gold = [0, 1, 1, 0]
    const rows = logs(gold.map(() => [0.95, 0.05]))
    const many = Array.from({ length: 50 }, () => rows).flat()
    const golds = Array.from({ length: 50 }, () => gold).flat()
    expect(fitTemperature(many, golds)).toBeGreaterThan(1.5 * fitTemperature(rows, gold))
  })

  it('must be above zero', ({ expect }) => {
    expect(() => applyTemperature(SIX, 0)).toThrow(RangeError)
  })
})
