import type { GivenHyperparameters } from '../../protocol/openai/hyperparameters.ts'
import type { JobSpec } from '../job-spec.ts'
import type { SearchKind, SettledMethod } from '../step.ts'
import { AUTO } from './auto.ts'
import { BO } from './bo.ts'
import { GRADIENT } from './gradient.ts'
import { searchInRounds } from './rounds.ts'
import { plainSearch } from './values.ts'

/** All searches, by the names that `hyperparameters.optimizer` has for them. */
export const SEARCHES = new Map<string, SearchKind>([
  ['auto', AUTO],
  ['bo', BO],
  ['random', plainSearch('random')],
  ['tarot', plainSearch('tarot')],
  ['tarot-published', plainSearch('tarot-published')],
  ['gradient', GRADIENT],
  ['raft', searchInRounds('raft', 'best')],
  ['iterative-dpo', searchInRounds('iterative-dpo', 'pairs')],
])

/** @throws {Error} another release began the job, with a search that this one does not have */
export function searchOf({ optimiser }: Pick<JobSpec, 'optimiser'>): SearchKind {
  const search = SEARCHES.get(optimiser)
  if (search === undefined) throw new Error(`no search "${optimiser}"`)
  return search
}

/** The fields of a new job that its search settles. */
export const settleHyperparameters = (
  optimiser: JobSpec['optimiser'],
  given: GivenHyperparameters,
  method: SettledMethod,
) => ({
  optimiser,
  ...{ gradient: null, rounds: null, auto: null, subspace: null },
  ...searchOf({ optimiser }).settle(given, method),
})
