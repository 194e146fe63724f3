/**
 * One holder at a time, in the order of asking. Live steps and jobs' steps take turns through it, so
 * neither waits for more than one step of the other.
 */
export class FifoLock {
  #tail: Promise<unknown> = Promise.resolve()

  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work)
    this.#tail = result.then(
      () => undefined,
      () => undefined,
    )
    return result
  }
}
