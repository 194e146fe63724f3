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

  /**
   * Loads the session where need be; the work may do what it can before that is done. A load that
   * fails is tried again by the next user.
   */
  async use<T>(work: (loading: Promise<Session>) => Promise<T>): Promise<T> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#numUsers += 1
    try {
      const loading = this.#load()
      // Not to be an unhandled rejection where the work fails first.
      loading.catch(() => undefined)
      return await work(loading)
    } finally {
      this.#numUsers -= 1
      if (this.#numUsers === 0 && this.#session !== null) {
        this.#timer = setTimeout(() => void this.release(), this.#idleMs)
        this.#timer.unref()
      }
    }
  }

  /** Loads the session for a user that is to come; where none does, it is let go as after one. */
  warm(): void {
    // What failed is the next user's to see.
    void this.use((loading) => loading).catch(() => undefined)
  }

  #load(): Promise<Session> {
    if (this.#session !== null) return this.#session
    const loading = this.#open().catch((error: unknown) => {
      if (this.#session === loading) this.#session = null
      throw error
    })
    this.#session = loading
    return loading
  }

  /** Frees the session unless it is in use. */
  async release(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#numUsers > 0 || this.#session === null) return
    const session = this.#session
    this.#session = null
    // A load that failed holds nothing.
    await session.then(
      (loaded) => {
        loaded.release()
      },
      () => undefined,
    )
  }
}
