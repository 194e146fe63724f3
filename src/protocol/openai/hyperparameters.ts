/** What a job's search is told: `method.rotation.hyperparameters`. */
import { z } from 'zod'
import { SEARCH_NAMES, type PlainSearchName, type RoundSearchName } from './search-names.ts'

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

export const hyperparametersSchema = z.strictObject({
  optimizer: z.enum(SEARCH_NAMES).default('auto'),
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

/** All of them but the name of the search. */
export type HyperparameterName = Exclude<keyof GivenHyperparameters, 'optimizer'>

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
      readonly optimizer: PlainSearchName
      readonly n_trials: number
    }
  | {
      readonly optimizer: RoundSearchName
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
