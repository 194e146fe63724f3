/**
 * Lets other requests run between slices of long work. Work is counted, not timed: while code runs,
 * workerd's clock stands still.
 */
export class Breather {
  readonly #unitsPerSlice: number
  readonly #pause: () => Promise<void>
  #units = 0

  /** @param unitsPerSlice work between two pauses, in whatever the caller counts */
  constructor(unitsPerSlice: number, pause: () => Promise<void> = nextTurn) {
    this.#unitsPerSlice = unitsPerSlice
    this.#pause = pause
  }

  /** Call it after each piece of work, which should be far smaller than a slice. */
  async worked(units: number): Promise<void> {
    this.#units += units
    if (this.#units < this.#unitsPerSlice) return
    this.#units = 0
    await this.#pause()
  }
}

/** A timer, since promises alone would be settled before anything else runs. */
const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, 0)
  })
