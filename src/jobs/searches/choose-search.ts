/** Which search a job runs, and which fields of its method go with that search. */
import { invalidField } from '../../protocol/openai/error.ts'
import type { CreateJob } from '../../protocol/openai/fine-tuning.ts'
import type { HyperparameterName } from '../../protocol/openai/hyperparameters.ts'
import type { SearchName } from '../../protocol/openai/search-names.ts'
import { searchOf } from './searches.ts'

/** What of a request decides the search. Its objective is null until the files have been read. */
type Method = Pick<CreateJob, 'scope' | 'hyperparameters' | 'objective' | 'grader' | 'generation'>

const HYPERPARAMETERS = 'method.rotation.hyperparameters'

/**
 * The search that a request names, or the one that suits it where it leaves the choice to the service.
 * Labels get `auto`. It fits by gradients, which the scope "all" does not have, so jobs under that
 * scope get `bo`, as do jobs that name a subspace. Targets and pairs get `gradient`. A grader of texts
 * gets `iterative-dpo`, which chooses among the different texts that one prompt gives. At temperature 0
 * a prompt always gives the same text, so there the grader gets `bo`.
 */
export function chooseSearch({
  scope,
  hyperparameters,
  objective,
  generation,
}: Method): SearchName {
  const { optimizer, subspace } = hyperparameters
  if (optimizer !== 'auto') return optimizer
  if (scope === 'all' || subspace !== undefined) return 'bo'
  if (objective === 'reward') return generation?.temperature === 0 ? 'bo' : 'iterative-dpo'
  return objective === 'target' || objective === 'preference' ? 'gradient' : 'auto'
}

/**
 * Checks that a method's search can learn what the method asks for, with the hyperparameters given.
 * @throws {ApiError} 400 naming the field
 */
export function checkSearch(method: Method): void {
  const { scope, hyperparameters, grader, generation } = method
  const name = chooseSearch(method)
  const search = searchOf({ optimiser: name })
  const drawsTexts = search.drawsTexts === true
  if (drawsTexts && grader === null) {
    throw invalidField(`${HYPERPARAMETERS}.optimizer`, 'needs a grader of generated texts')
  }
  // The hyperparameter that makes the search follow gradients.
  const byGradient =
    search.datasetUse === 'gradient'
      ? 'optimizer'
      : hyperparameters.subspace === 'gradient'
        ? 'subspace'
        : null
  if (byGradient !== null && grader !== null && !drawsTexts) {
    throw invalidField(
      `${HYPERPARAMETERS}.${byGradient}`,
      `needs a gradient, and the grader "${grader.type}" has none`,
    )
  }
  checkHyperparameters(method, name, search.hyperparameters)
  if (drawsTexts && generation?.temperature === 0) {
    throw invalidField(
      'method.rotation.generation.temperature',
      `must be above 0: the optimizer "${name}" chooses among texts that differ`,
    )
  }
  if (byGradient !== null && scope === 'all') {
    const value = byGradient === 'optimizer' ? name : 'gradient'
    throw invalidField(
      'method.rotation.scope',
      `must be "generated" for the ${byGradient} "${value}"`,
    )
  }
}

/** Refuses a hyperparameter that only other searches have. */
function checkHyperparameters(
  { scope, hyperparameters }: Method,
  search: SearchName,
  own: readonly HyperparameterName[],
): void {
  const { optimizer, ...given } = hyperparameters
  const names = Object.keys(given) as HyperparameterName[]
  const foreign = names.find((name) => given[name] !== undefined && !own.includes(name))
  if (foreign === undefined) return
  const which = scope === 'all' ? 'under the scope "all"' : 'for what this job learns'
  const chosen = search === optimizer ? `"${search}"` : `"${search}", which "auto" is ${which}`
  throw invalidField(
    `${HYPERPARAMETERS}.${foreign}`,
    `is not a hyperparameter of the optimizer ${chosen}`,
  )
}
