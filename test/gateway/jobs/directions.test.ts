import { describe, it } from 'vitest'
import { encodeDirections } from '../../../adapters/optimise/subspace/directions.ts'
import { firstSearchedLayer } from '../../../adapters/optimise/bo/bo.ts'
import { NUM_FOLDS } from '../../../adapters/optimise/gradient/folds.ts'
import { pairsPerLayer } from '../../../adapters/rotation/rotation.ts'
import { directionGroups, readDirections } from '../../../src/jobs/searches/directions.ts'
import { countGuardFolds, guardFolds } from '../../../src/jobs/guard-folds.ts'
import type { JobSpec, PinnedModel } from '../../../src/jobs/job-spec.ts'
import { GEOMETRY } from '../runner-double.ts'

const pinned: PinnedModel = {
  modelDigest: 'a'.repeat(64),
  buildDigest: 'b'.repeat(64),
  geometry: GEOMETRY,
  promptTokens: 1,
}
const numAngles = (GEOMETRY.numLayers - firstSearchedLayer(GEOMETRY)) * pairsPerLayer(GEOMETRY)

/** What these functions read of a job: its examples and its seed. */
function specOf(numExamples: number, groups?: readonly number[]): JobSpec {
  const gold = Array.from({ length: numExamples }, (_, i) => i % 3)
  return {
    seed: 5,
    groups: groups ?? gold.map((_, i) => i),
    training: { blobKey: '', digest: '', gold },
  } as unknown as JobSpec
}

/** The directions that a fold's search is given, by their index. */
function given(spec: JobSpec, fold: number | null): number[] {
  const directions = directionGroups(spec).map((_, k) => new Float32Array(numAngles).fill(k + 1))
  const read = readDirections(encodeDirections(directions), spec, pinned, fold)
  return read.map((direction) => direction[0]! - 1)
}

describe('the directions of a fold’s search', () => {
  it.for([20, 33, 100, 1100])(
    'are of no example of the fold, of %i examples',
    (count, { expect }) => {
      const spec = specOf(count)
      const groups = directionGroups(spec)
      const folds = guardFolds(spec, NUM_FOLDS)
      expect(groups.flat().sort((a, b) => a - b)).toEqual(spec.training.gold.map((_, i) => i))
      expect(groups.length).toBeLessThanOrEqual(32)
      expect(given(spec, null)).toEqual(groups.map((_, k) => k))
      for (let fold = 0; fold < countGuardFolds(spec, NUM_FOLDS); fold++) {
        const seen = given(spec, fold).flatMap((k) => groups[k]!)
        expect(seen.some((example) => folds[example] === fold)).toBe(false)
        expect(seen).toHaveLength(folds.filter((own) => own !== fold).length)
      }
    },
  )

  it('leave out repeated inputs together', ({ expect }) => {
    const spec = specOf(12, [0, 1, 2, 0, 1, 2, 6, 7, 8, 9, 10, 11])
    const folds = guardFolds(spec, NUM_FOLDS)
    const groups = directionGroups(spec)
    for (const [first, again] of [
      [0, 3],
      [1, 4],
      [2, 5],
    ] as const) {
      expect(folds[again]).toBe(folds[first])
      const seen = given(spec, folds[first]!).flatMap((k) => groups[k]!)
      expect(seen).not.toContain(first)
      expect(seen).not.toContain(again)
    }
  })
})
