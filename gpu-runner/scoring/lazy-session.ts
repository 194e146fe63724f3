import type { Session } from '../ort/index.ts'

/** A session that is loaded when first used and let go when nothing has used it for a while. */
export class LazySession {
  readonly #open: () => Promise<Session>
  readonly #idleMs: number
  #session: Promise<Session> | null = null
  #numUsers = 0
  #timer: NodeJS.Timeout | null = null

  constructor(open: () => Promise<Session>, idleMs: number) {
    this.#open = open
    this.#idleMs = idleMs
  }

  get isLoaded(): boolean {
    return this.#session !== null
  }

  /** Loads the session where need be. A load that fails is tried again by the next user. */
  async use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#numUsers += 1
    try {
      this.#session ??= this.#open()
      const session = await this.#session.catch((error: unknown) => {
        this.#session = null
        throw error
      })
      return await work(session)
    } finally {
      this.#numUsers -= 1
      if (this.#numUsers === 0 && this.#session !== null) {
        this.#timer = setTimeout(() => void this.release(), this.#idleMs)
        this.#timer.unref()
      }
    }
  }

  /** Frees the session unless it is in use. */
  async release(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#numUsers > 0 || this.#session === null) return
    const session = this.#session
    this.#session = null
    ;(await session).release()
  }
}
