/** Measures how long a request has waited for runners. Waits that overlap count once. */
export class WaitClock {
  #numWaiting = 0
  #sinceMs = 0
  #waitedMs = 0

  get waitedMs(): number {
    return this.#waitedMs + (this.#numWaiting > 0 ? Date.now() - this.#sinceMs : 0)
  }

  async during<T>(wait: Promise<T>): Promise<T> {
    if (this.#numWaiting === 0) this.#sinceMs = Date.now()
    this.#numWaiting += 1
    try {
      return await wait
    } finally {
      this.#numWaiting -= 1
      if (this.#numWaiting === 0) this.#waitedMs += Date.now() - this.#sinceMs
    }
  }

  /** Passes events on, and counts the time until each. */
  async *each<T>(events: AsyncGenerator<T>): AsyncGenerator<T> {
    try {
      for (;;) {
        const next = await this.during(events.next())
        if (next.done === true) return
        yield next.value
      }
    } finally {
      await events.return(undefined)
    }
  }
}
