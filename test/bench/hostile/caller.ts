import { setTimeout as sleep } from 'node:timers/promises'
import type { StackAccess } from '../../fixtures/stack.ts'

/** Requests one path again and again, and records the longest wait. */
export class Caller {
  #isOver = false
  #longestMs = 0
  readonly #loop: Promise<void>

  /** @param pauseMs between an answer and the next request */
  constructor(stack: StackAccess, path: string, pauseMs = 0) {
    this.#loop = this.#ask(new URL(path, stack.baseUrl), stack.apiKey, pauseMs)
  }

  /** The longest wait since the last call. */
  takeLongestMs(): number {
    const taken = Math.round(this.#longestMs)
    this.#longestMs = 0
    return taken
  }

  /** @throws {Error} an answer was not 200 */
  stop(): Promise<void> {
    this.#isOver = true
    return this.#loop
  }

  async #ask(url: URL, apiKey: string, pauseMs: number): Promise<void> {
    while (!this.#isOver) {
      const askedAtMs = performance.now()
      const response = await fetch(url, { headers: { authorization: `Bearer ${apiKey}` } })
      await response.arrayBuffer()
      if (!response.ok) throw new Error(`${url.pathname} answered ${response.status}`)
      this.#longestMs = Math.max(this.#longestMs, performance.now() - askedAtMs)
      if (pauseMs > 0) await sleep(pauseMs)
    }
  }
}
