/** The texts of a prompt that a round fits: the best, or the pair of the best and the worst. */
export type RoundFit = 'best' | 'pairs'

export type RoundOptions = {
  readonly fit: RoundFit
  readonly numRounds: number
  /** Number of texts that a round generates per prompt and candidate fitted to it. */
  readonly numSamples: number
  /** Number of steps of Adam in a round. */
  readonly numSteps: number
  readonly learningRate: number
  /** Only for pairs. A larger beta sooner lowers the weight of a pair whose best text is likelier. */
  readonly beta: number
  readonly numFolds: number
}

/** Generating texts is slow. With two folds one candidate is fitted to each prompt and generates for it. */
export const NUM_ROUND_FOLDS = 2

/** @throws {RangeError} an option is invalid */
export function checkRoundOptions(options: RoundOptions): void {
  const counts = {
    numRounds: [options.numRounds, 1],
    numSamples: [options.numSamples, 2],
    numSteps: [options.numSteps, 1],
    numFolds: [options.numFolds, 2],
  } as const
  for (const [name, [value, least]] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < least)
      throw new RangeError(`${name} ${value} is not an integer from ${least} on`)
  }
  const { learningRate, beta } = options
  if (!(learningRate > 0 && learningRate <= 1))
    throw new RangeError(`learningRate ${learningRate} is not in (0, 1]`)
  if (!(beta > 0 && Number.isFinite(beta)))
    throw new RangeError(`beta ${beta} is not positive and finite`)
}
