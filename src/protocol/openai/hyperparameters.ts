/** What a job's search is told: `method.rotation.hyperparameters`. */
import { z } from 'zod'
import type { Scope } from '../runner.ts'
import type { Objective } from './objective.ts'

const DEFAULT_NUM_TRIALS = 150
/** A trial on a grader generates a text an example, dozens of steps where a label takes one. */
const DEFAULT_NUM_REWARD_TRIALS = 40
/** The search's own cost grows with the cube of the trials; at this many it is a second a round. */
const MAX_NUM_TRIALS = 1000
/** Configurations that `auto` tries at most: its budget ends it long before. */
const DEFAULT_NUM_CONFIGURATIONS = 32
const DEFAULT_BUDGET_SECONDS = 40
const MAX_BUDGET_SECONDS = 3600
const DEFAULT_NUM_STEPS = 24
/** Of a batch each: twenty examples are learnt by heart in 24; a thousand may want more. */
const MAX_NUM_STEPS = 300
const DEFAULT_LEARNING_RATE = 0.05
/** Radians a step and pair: past this, steps jump over what they are looking for. */
const MAX_LEARNING_RATE = 0.5
const MIN_LEARNING_RATE = 1e-5

/** What is left out, or left to the service (OpenAI's clients write `auto`), is absent. */
const givenOrAuto = <T>(schema: z.ZodType<T>) =>
  z.preprocess((given) => (given === 'auto' ? undefined : given), schema.optional())

const OPTIMISERS = ['auto', 'bo', 'random', 'tarot', 'tarot-published', 'gradient'] as const
export type OptimiserName = (typeof OPTIMISERS)[number]
const SUBSPACES = ['gradient', 'random'] as const
/** What `bo` looks along: the gradients of the examples, or random directions. */
export type SubspaceName = (typeof SUBSPACES)[number]

const OWN_HYPERPARAMETERS = {
  auto: ['budget_seconds', 'n_trials'],
  bo: ['n_trials', 'subspace'],
  random: ['n_trials'],
  tarot: ['n_trials'],
  'tarot-published': ['n_trials'],
  gradient: ['n_steps', 'learning_rate'],
} as const satisfies Record<OptimiserName, readonly string[]>

export const hyperparametersSchema = z.strictObject({
  optimizer: z.enum(OPTIMISERS).default('auto'),
  /** Of `auto`: configurations at most. Of the others but `gradient`: evaluations. */
  n_trials: givenOrAuto(z.int().min(2).max(MAX_NUM_TRIALS)),
  /** Of `auto`: how long the search may take, on a runner that does nothing else. */
  budget_seconds: givenOrAuto(z.number().min(1).max(MAX_BUDGET_SECONDS)),
  /** Of `bo`. Left out, `gradient` under the scope "generated" and `random` under "all". */
  subspace: givenOrAuto(z.enum(SUBSPACES)),
  /** Of `gradient`, as `learning_rate`. */
  n_steps: givenOrAuto(z.int().min(1).max(MAX_NUM_STEPS)),
  learning_rate: givenOrAuto(z.number().min(MIN_LEARNING_RATE).max(MAX_LEARNING_RATE)),
})
type Hyperparameters = z.output<typeof hyperparametersSchema>

/** A method as far as its search goes. */
type Method = {
  readonly scope: Scope
  readonly hyperparameters: Hyperparameters
  /** Null while it is not known what the files teach. */
  readonly objective: Objective | null
}

/**
 * The search itself. What is left to the service is `auto` for labels under the scope "generated":
 * it fits gradients, which under "all" and of a grader there are none of, so there it is `bo`; so it is
 * where a subspace is named. Texts are fitted by `gradient`.
 */
function optimiserOf({ scope, hyperparameters, objective }: Method): OptimiserName {
  const { optimizer, subspace } = hyperparameters
  if (optimizer !== 'auto') return optimizer
  if (scope === 'all' || subspace !== undefined || objective === 'reward') return 'bo'
  return objective === 'target' || objective === 'preference' ? 'gradient' : 'auto'
}

/** The first hyperparameter that is another search's, and what is to be said of it. */
export function findForeign(
  method: Method,
): { readonly name: string; readonly message: string } | null {
  const { optimizer, ...given } = method.hyperparameters
  const optimiser = optimiserOf(method)
  const own: readonly string[] = OWN_HYPERPARAMETERS[optimiser]
  const name = Object.keys(given).find(
    (key) => given[key as keyof typeof given] !== undefined && !own.includes(key),
  )
  if (name === undefined) return null
  const which = method.scope === 'all' ? 'under the scope "all"' : 'for what this job learns'
  const settled =
    optimiser === optimizer ? `"${optimiser}"` : `"${optimiser}", which "auto" is ${which}`
  return { name, message: `is not a hyperparameter of the optimizer ${settled}` }
}

/** Refuses hyperparameters that are another search's, and searches that the scope does not have. */
export function checkHyperparameters(method: Method, context: z.core.$RefinementCtx): void {
  const foreign = findForeign(method)
  if (foreign !== null) {
    const { name, message } = foreign
    context.addIssue({ code: 'custom', path: ['hyperparameters', name], message })
  }
  if (method.scope === 'generated') return
  const { optimizer, subspace } = method.hyperparameters
  const [name, value] = subspace === undefined ? ['optimizer', optimizer] : ['subspace', subspace]
  if (value !== 'gradient') return
  context.addIssue({
    code: 'custom',
    path: ['scope'],
    message: `must be "generated" for the ${name} "gradient"`,
  })
}

function countTrials(
  optimiser: OptimiserName,
  given: number | undefined,
  numSteps: number,
  isReward: boolean,
): number {
  // The first of these measures the base model, before any step or configuration.
  if (optimiser === 'gradient') return 1 + numSteps
  if (optimiser === 'auto') return 1 + (given ?? DEFAULT_NUM_CONFIGURATIONS)
  return given ?? (isReward ? DEFAULT_NUM_REWARD_TRIALS : DEFAULT_NUM_TRIALS)
}

/** What a job keeps of its hyperparameters, nothing left open. */
export function settleHyperparameters(method: Method & { readonly objective: Objective }) {
  const { hyperparameters: given, scope, objective } = method
  const optimiser = optimiserOf(method)
  const numSteps = given.n_steps ?? DEFAULT_NUM_STEPS
  const isReward = objective === 'reward'
  const defaultSubspace = scope === 'generated' && !isReward ? 'gradient' : 'random'
  return {
    optimiser,
    numTrials: countTrials(optimiser, given.n_trials, numSteps, isReward),
    gradient:
      optimiser === 'gradient'
        ? { numSteps, learningRate: given.learning_rate ?? DEFAULT_LEARNING_RATE }
        : null,
    auto:
      optimiser === 'auto'
        ? { budgetSeconds: given.budget_seconds ?? DEFAULT_BUDGET_SECONDS }
        : null,
    subspace: optimiser === 'bo' ? (given.subspace ?? defaultSubspace) : null,
  }
}

/** As a job shows them. */
export type ShownHyperparameters =
  | {
      readonly optimizer: 'auto'
      readonly n_trials: number
      readonly budget_seconds: number
    }
  | {
      readonly optimizer: 'bo'
      readonly n_trials: number
      readonly subspace: SubspaceName
    }
  | {
      readonly optimizer: Exclude<OptimiserName, 'auto' | 'bo' | 'gradient'>
      readonly n_trials: number
    }
  | {
      readonly optimizer: 'gradient'
      readonly n_steps: number
      readonly learning_rate: number
    }
