/** The settings of a job's search: `method.rotation.hyperparameters`. */
import { z } from 'zod'
import { SEARCH_NAMES, type PlainSearchName, type RoundSearchName } from './search-names.ts'

/**
 * The cost of `bo` itself grows with the cube of the trials. At this many, a round costs it a
 * second.
 */
const MAX_NUM_TRIALS = 1000
const MAX_BUDGET_SECONDS = 3600
/**
 * A step takes one batch. Twenty examples are learnt by heart in 24 steps; a thousand may need
 * more.
 */
const MAX_NUM_STEPS = 300
/** With more dropped, hardly anything of a prompt is left. */
const MAX_PROMPT_DROPOUT = 0.9
const MAX_NUM_ROUNDS = 50
/** Each text that a round draws for a prompt takes a row of the runner's batch. */
const MAX_NUM_SAMPLES = 64
/** Radians a step and pair. Larger steps jump over the optimum. */
const MAX_LEARNING_RATE = 0.5
const MIN_LEARNING_RATE = 1e-5

/**
 * OpenAI's clients write `auto` for a hyperparameter that they leave to the service; it reads as
 * absent.
 */
const givenOrAuto = <T>(schema: z.ZodType<T>) =>
  z.preprocess((given) => (given === 'auto' ? undefined : given), schema.optional())

const SUBSPACES = ['gradient', 'random'] as const
/** The directions that `bo` searches: the gradients of the examples, or random ones. */
export type SubspaceName = (typeof SUBSPACES)[number]

export const hyperparametersSchema = z.strictObject({
  optimizer: z.enum(SEARCH_NAMES).default('auto'),
  /**
   * For `auto`, the most configurations that it tries; for `bo` and the like, how many candidates.
   */
  n_trials: givenOrAuto(z.int().min(2).max(MAX_NUM_TRIALS)),
  /** How many seconds `auto` may take, on a runner that does nothing else. */
  budget_seconds: givenOrAuto(z.number().min(1).max(MAX_BUDGET_SECONDS)),
  /** For `bo`. */
  subspace: givenOrAuto(z.enum(SUBSPACES)),
  /**
   * For `raft` and `iterative-dpo`: the number of rounds, and of texts that a round draws for a
   * prompt.
   */
  n_rounds: givenOrAuto(z.int().min(1).max(MAX_NUM_ROUNDS)),
  n_samples: givenOrAuto(z.int().min(2).max(MAX_NUM_SAMPLES)),
  /**
   * Adam's steps and learning rate: for `gradient` in all, for `raft` and `iterative-dpo` in each
   * round.
   */
  n_steps: givenOrAuto(z.int().min(1).max(MAX_NUM_STEPS)),
  learning_rate: givenOrAuto(z.number().min(MIN_LEARNING_RATE).max(MAX_LEARNING_RATE)),
  /**
   * For `gradient`: the share of a prompt's own tokens that a step leaves out. Each step draws
   * anew.
   */
  prompt_dropout: givenOrAuto(z.number().min(0).max(MAX_PROMPT_DROPOUT)),
})
export type GivenHyperparameters = z.output<typeof hyperparametersSchema>

/** Every field but `optimizer`, which names the search itself. */
export type HyperparameterName = Exclude<keyof GivenHyperparameters, 'optimizer'>

/** The hyperparameters as a job shows them. */
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
