/** What a job's search is told: `method.rotation.hyperparameters`. */
import { z } from 'zod'
import type { Scope } from '../runner.ts'
import type { GenerationOptions } from './graders.ts'
import type { Objective } from './objective.ts'
import {
  isInRounds,
  OPTIMISERS,
  type OptimiserName,
  type RoundOptimiserName,
  type ValueOptimiserName,
} from './optimisers.ts'

/** The search's own cost grows with the cube of the trials; at this many it is a second a round. */
const MAX_NUM_TRIALS = 1000
const MAX_BUDGET_SECONDS = 3600
/** Of a batch each: twenty examples are learnt by heart in 24; a thousand may want more. */
const MAX_NUM_STEPS = 300
/** Past this, hardly anything of a prompt is left. */
const MAX_PROMPT_DROPOUT = 0.9
const MAX_NUM_ROUNDS = 50
/** Each text that a round draws of a prompt is a row of the runner's batch. */
const MAX_NUM_SAMPLES = 64
/** Radians a step and pair: past this, steps jump over what they are looking for. */
const MAX_LEARNING_RATE = 0.5
const MIN_LEARNING_RATE = 1e-5

/** What is left out, or left to the service (OpenAI's clients write `auto`), is absent. */
const givenOrAuto = <T>(schema: z.ZodType<T>) =>
  z.preprocess((given) => (given === 'auto' ? undefined : given), schema.optional())

const SUBSPACES = ['gradient', 'random'] as const
/** What `bo` looks along: the gradients of the examples, or random directions. */
export type SubspaceName = (typeof SUBSPACES)[number]

const ROUND_HYPERPARAMETERS = ['n_rounds', 'n_samples', 'n_steps', 'learning_rate'] as const
const OWN_HYPERPARAMETERS = {
  auto: ['budget_seconds', 'n_trials'],
  bo: ['n_trials', 'subspace'],
  random: ['n_trials'],
  tarot: ['n_trials'],
  'tarot-published': ['n_trials'],
  gradient: ['n_steps', 'learning_rate', 'prompt_dropout'],
  raft: ROUND_HYPERPARAMETERS,
  'iterative-dpo': ROUND_HYPERPARAMETERS,
} as const satisfies Record<OptimiserName, readonly string[]>

export const hyperparametersSchema = z.strictObject({
  optimizer: z.enum(OPTIMISERS).default('auto'),
  /** The most configurations that `auto` tries; evaluations of a search by values. */
  n_trials: givenOrAuto(z.int().min(2).max(MAX_NUM_TRIALS)),
  /** How many seconds `auto` may take, on a runner that does nothing else. */
  budget_seconds: givenOrAuto(z.number().min(1).max(MAX_BUDGET_SECONDS)),
  /** For `bo`. Left out, it is `gradient` under the scope "generated" and `random` under "all". */
  subspace: givenOrAuto(z.enum(SUBSPACES)),
  /** For `raft` and `iterative-dpo`: how often texts are drawn and fitted, and how many a prompt. */
  n_rounds: givenOrAuto(z.int().min(1).max(MAX_NUM_ROUNDS)),
  n_samples: givenOrAuto(z.int().min(2).max(MAX_NUM_SAMPLES)),
  /** Steps of Adam and their rate: of the whole search under `gradient`, of each round in rounds. */
  n_steps: givenOrAuto(z.int().min(1).max(MAX_NUM_STEPS)),
  learning_rate: givenOrAuto(z.number().min(MIN_LEARNING_RATE).max(MAX_LEARNING_RATE)),
  /** For `gradient`: the share of a prompt's own tokens that each step leaves out, drawn anew. */
  prompt_dropout: givenOrAuto(z.number().min(0).max(MAX_PROMPT_DROPOUT)),
})
export type GivenHyperparameters = z.output<typeof hyperparametersSchema>

/** The fields of a method that its search depends on. */
type Method = {
  readonly scope: Scope
  readonly hyperparameters: GivenHyperparameters
  /** Null while it is not known what the files teach. */
  readonly objective: Objective | null
  /** Of graders of texts. */
  readonly generation?: Pick<GenerationOptions, 'temperature'> | null | undefined
}

/**
 * Which search a job runs where its method leaves that to the service. Labels get `auto`; it fits by
 * gradients, which the scope "all" does not have, so there they get `bo`, as does a method that names a
 * subspace. Targets and pairs get `gradient`. A grader of texts gets `iterative-dpo`, which chooses among
 * texts that differ; greedy texts do not, so at temperature 0 it gets `bo`.
 */
export function chooseOptimiser({
  scope,
  hyperparameters,
  objective,
  generation,
}: Method): OptimiserName {
  const { optimizer, subspace } = hyperparameters
  if (optimizer !== 'auto') return optimizer
  if (scope === 'all' || subspace !== undefined) return 'bo'
  if (objective === 'reward') return generation?.temperature === 0 ? 'bo' : 'iterative-dpo'
  return objective === 'target' || objective === 'preference' ? 'gradient' : 'auto'
}

/** The first hyperparameter that is another search's, and what is to be said of it. */
export function findForeign(
  method: Method,
): { readonly name: string; readonly message: string } | null {
  const { optimizer, ...given } = method.hyperparameters
  const optimiser = chooseOptimiser(method)
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
  const { optimizer, subspace } = method.hyperparameters
  if (isInRounds(optimizer) && method.generation?.temperature === 0) {
    context.addIssue({
      code: 'custom',
      path: ['generation', 'temperature'],
      message: `must be above 0: the optimizer "${optimizer}" chooses among texts that differ`,
    })
  }
  if (method.scope === 'generated') return
  const [name, value] = subspace === undefined ? ['optimizer', optimizer] : ['subspace', subspace]
  if (value !== 'gradient' && !isInRounds(optimizer)) return
  context.addIssue({
    code: 'custom',
    path: ['scope'],
    message: `must be "generated" for the ${name} "${value}"`,
  })
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
      readonly optimizer: ValueOptimiserName
      readonly n_trials: number
    }
  | {
      readonly optimizer: RoundOptimiserName
      readonly n_rounds: number
      readonly n_samples: number
      readonly n_steps: number
      readonly learning_rate: number
    }
  | {
      readonly optimizer: 'gradient'
      readonly n_steps: number
      readonly learning_rate: number
      readonly prompt_dropout: number
    }
