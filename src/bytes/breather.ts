/**
 * Lets other requests run between slices of long work. It counts the work, because workerd's clock
 * stands still while code runs.
 */
export class Breather {
  readonly #unitsPerSlice: number
  readonly #pause: () => Promise<void>
  #units = 0

  /** @param unitsPerSlice the work between two pauses, in any unit that the caller counts */
  constructor(unitsPerSlice: number, pause: () => Promise<void> = nextTurn) {
    this.#unitsPerSlice = unitsPerSlice
    this.#pause = pause
  }

  /** Call this after each piece of work. A piece should be far smaller than a slice. */
  async worked(units: number): Promise<void> {
    this.#units += units
    if (this.#units < this.#unitsPerSlice) return
    this.#units = 0
    await this.#pause()
  }
}

/** Waits by a timer, because promises settle before any other request runs. */
const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, 0)
  })
