import { createBo, type BoOptions } from './bo/bo.ts'
import type { BoSpec, Optimiser, SearchSpec } from './optimiser.ts'
import { createRandom, type RandomOptions } from './random/random.ts'
import { createTarot, type TarotOptions } from './tarot/tarot.ts'

export type OptimiserSpec =
  | (BoSpec & { readonly name: 'bo'; readonly options?: Partial<BoOptions> })
  | (SearchSpec & { readonly name: 'random'; readonly options?: Partial<RandomOptions> })
  | (SearchSpec & {
      readonly name: 'tarot' | 'tarot-published'
      readonly options?: Partial<TarotOptions>
    })

/** @throws {RangeError} an option or the number of trials is invalid for the geometry */
export function createOptimiser(spec: OptimiserSpec): Optimiser {
  if (!Number.isSafeInteger(spec.seed)) throw new RangeError(`seed ${spec.seed} is not an integer`)
  if (!Number.isSafeInteger(spec.numTrials) || spec.numTrials < 1) {
    throw new RangeError(`numTrials ${spec.numTrials} is not a positive integer`)
  }
  switch (spec.name) {
    case 'bo':
      return createBo(spec, spec.options)
    case 'random':
      return createRandom(spec, spec.options)
    case 'tarot':
      return createTarot(spec, spec.options)
    case 'tarot-published':
      return createTarot(spec, { ...spec.options, asPublished: true })
  }
}
