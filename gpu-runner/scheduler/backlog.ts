/** Weight of the newest measurement in a moving average. */
const WEIGHT = 0.1
const MIN_RETRY_SECONDS = 1
/** Longest wait that a caller is told. */
const MAX_RETRY_SECONDS = 60

/** Work that is done before a new request's. */
export type Backlog = {
  /** Prompt tokens still to be computed. */
  readonly promptTokens: number
  /** How many tokens each row, waiting ones included, may still generate. */
  readonly rowLimits: readonly number[]
}

/** Moving averages of how long steps take and how many tokens answers have; null before the first. */
export class Pace {
  #msPerPromptToken: number | null = null
  #msPerStep: number | null = null
  #tokensPerRow: number | null = null

  addPrefill(numTokens: number, ms: number): void {
    if (numTokens > 0) this.#msPerPromptToken = mix(this.#msPerPromptToken, ms / numTokens)
  }

  addStep(ms: number): void {
    this.#msPerStep = mix(this.#msPerStep, ms)
  }

  addAnswer(numTokens: number): void {
    this.#tokensPerRow = mix(this.#tokensPerRow, numTokens)
  }

  /** How long a backlog would take with `numRows` rows at a time. */
  drainMs({ promptTokens, rowLimits }: Backlog, numRows: number): number {
    const mean = this.#tokensPerRow ?? Infinity
    const rowTokens = rowLimits.reduce((sum, limit) => sum + Math.min(limit, mean), 0)
    return (
      promptTokens * (this.#msPerPromptToken ?? 0) +
      Math.ceil(rowTokens / numRows) * (this.#msPerStep ?? 0)
    )
  }
}

const mix = (old: number | null, value: number): number =>
  old === null ? value : old + WEIGHT * (value - old)

/** Whole seconds for a `Retry-After`. */
export const retryAfterSeconds = (drainMs: number): number =>
  Math.min(MAX_RETRY_SECONDS, Math.max(MIN_RETRY_SECONDS, Math.ceil(drainMs / 1000)))
