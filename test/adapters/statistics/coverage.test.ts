import { describe, it } from 'vitest'
import { perClass } from '../../../adapters/statistics/classification.ts'
import { accuracyByCoverage } from '../../../adapters/statistics/coverage.ts'

describe('accuracy against coverage', () => {
  it('starts with all answers and keeps ever surer ones; equally sure ones go together', ({
    expect,
  }) => {
    const rows = [0.9, 0.8, 0.8, 0.6].map((p) => [Math.log(p), Math.log(1 - p)])
    const points = accuracyByCoverage(rows, [0, 0, 1, 1])
    expect(points.map(({ coverage }) => coverage)).toEqual([1, 0.75, 0.25])
    expect(points.map(({ accuracy }) => accuracy)).toEqual([0.5, 2 / 3, 1])
    points.forEach(({ minConfidence }, i) => {
      expect(minConfidence).toBeCloseTo([0.6, 0.8, 0.9][i]!, 12)
    })
  })

  it('has at most twenty points, including all answers and the surest', ({ expect }) => {
    const rows = Array.from({ length: 300 }, (_, i) => {
      const p = 0.5 + (i + 1) / 700
      return [Math.log(p), Math.log(1 - p)]
    })
    const points = accuracyByCoverage(
      rows,
      rows.map((_, i) => (i < 100 ? 1 : 0)),
    )
    expect(points).toHaveLength(20)
    expect(points[0]!.coverage).toBe(1)
    expect(points[0]!.accuracy).toBeCloseTo(2 / 3, 12)
    expect(points.at(-1)).toMatchObject({ coverage: 1 / 300, accuracy: 1 })
  })
})

describe('figures of a class', () => {
  it('equal sklearn’s precision_recall_fscore_support, and are null for a division by zero', ({
    expect,
  }) => {
    const figures = perClass([
      [3, 1, 0],
      [2, 2, 0],
      [0, 1, 0],
    ])
    expect(figures[0]).toEqual({ numExamples: 4, precision: 0.6, recall: 0.75, f1: 6 / 9 })
    expect(figures[1]).toEqual({ numExamples: 4, precision: 0.5, recall: 0.5, f1: 0.5 })
    expect(figures[2]).toEqual({ numExamples: 1, precision: null, recall: 0, f1: 0 })
    expect(
      perClass([
        [1, 0],
        [0, 0],
      ])[1],
    ).toEqual({
      numExamples: 0,
      precision: null,
      recall: null,
      f1: 0,
    })
  })
})
