/** What of a prompt's texts is fitted: the best, or that the best is likelier than the worst. */
export type RoundFit = 'best' | 'pairs'

export type RoundOptions = {
  readonly fit: RoundFit
  /** Times that texts are drawn and fitted. */
  readonly numRounds: number
  /** Texts drawn of a prompt in a round, from each candidate that is fitted to it. */
  readonly numSamples: number
  /** Steps of Adam that fit a round's texts. */
  readonly numSteps: number
  readonly learningRate: number
  /** Of pairs: how soon a pair that is told apart counts for less. */
  readonly beta: number
  readonly numFolds: number
}

/** Texts of a prompt are dear: two fits on half of the prompts each draw them once. */
export const NUM_ROUND_FOLDS = 2

/** @throws {RangeError} an option makes no sense */
export function checkRoundOptions(options: RoundOptions): void {
  const counts = {
    numRounds: [options.numRounds, 1],
    numSamples: [options.numSamples, 2],
    numSteps: [options.numSteps, 1],
    numFolds: [options.numFolds, 2],
  } as const
  for (const [name, [value, least]] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < least) throw new RangeError(`${name} ${value}`)
  }
  const { learningRate, beta } = options
  if (!(learningRate > 0 && learningRate <= 1)) throw new RangeError(`rate ${learningRate}`)
  if (!(beta > 0 && Number.isFinite(beta))) throw new RangeError(`beta ${beta}`)
}
