import { describe, it } from 'vitest'
import { encodeDirections } from '../../../adapters/optimise/subspace/directions.ts'
import { firstSearchedLayer } from '../../../adapters/optimise/bo/bo.ts'
import { pairsPerLayer } from '../../../adapters/rotation/rotation.ts'
import { BO } from '../../../src/jobs/searches/bo.ts'
import { directionGroups, readDirections } from '../../../src/jobs/searches/directions.ts'
import { countGuardFolds, guardFolds, type FoldContext } from '../../../src/jobs/guard-folds.ts'
import type { JobSpec, PinnedModel } from '../../../src/jobs/job-spec.ts'
import { GEOMETRY } from '../runner-double.ts'

const pinned: PinnedModel = {
  modelDigest: 'a'.repeat(64),
  buildDigest: 'b'.repeat(64),
  geometry: GEOMETRY,
  promptTokens: 1,
}
const numAngles = (GEOMETRY.numLayers - firstSearchedLayer(GEOMETRY)) * pairsPerLayer(GEOMETRY)

/** What these functions read of a step: the job's examples, its seed and its search. */
function contextOf(numExamples: number, groups?: readonly number[]): FoldContext {
  const gold = Array.from({ length: numExamples }, (_, i) => i % 3)
  const spec = {
    seed: 5,
    groups: groups ?? gold.map((_, i) => i),
    training: { blobKey: '', digest: '', gold },
  } as unknown as JobSpec
  return { spec, search: BO }
}

/** The directions that a fold's search is given, by their index. */
function given(context: FoldContext, fold: number | null): number[] {
  const directions = directionGroups(context).map((_, k) => new Float32Array(numAngles).fill(k + 1))
  const searchState = encodeDirections(directions)
  const read = readDirections({ ...context, searchState }, pinned, fold)
  return read.map((direction) => direction[0]! - 1)
}

describe('the directions of a fold’s search', () => {
  it.for([20, 33, 100, 1100])(
    'are of no example of the fold, of %i examples',
    (count, { expect }) => {
      const context = contextOf(count)
      const groups = directionGroups(context)
      const folds = guardFolds(context)
      expect(groups.flat().sort((a, b) => a - b)).toEqual(
        context.spec.training.gold.map((_, i) => i),
      )
      expect(groups.length).toBeLessThanOrEqual(32)
      expect(given(context, null)).toEqual(groups.map((_, k) => k))
      for (let fold = 0; fold < countGuardFolds(context); fold++) {
        const seen = given(context, fold).flatMap((k) => groups[k]!)
        expect(seen.some((example) => folds[example] === fold)).toBe(false)
        expect(seen).toHaveLength(folds.filter((own) => own !== fold).length)
      }
    },
  )

  it('leave out repeated inputs together', ({ expect }) => {
    const context = contextOf(12, [0, 1, 2, 0, 1, 2, 6, 7, 8, 9, 10, 11])
    const folds = guardFolds(context)
    const groups = directionGroups(context)
    for (const [first, again] of [
      [0, 3],
      [1, 4],
      [2, 5],
    ] as const) {
      expect(folds[again]).toBe(folds[first])
      const seen = given(context, folds[first]!).flatMap((k) => groups[k]!)
      expect(seen).not.toContain(first)
      expect(seen).not.toContain(again)
    }
  })
})
