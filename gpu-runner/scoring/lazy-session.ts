import type { Session } from '../ort/index.ts'

/** A session that is loaded when it is first used, and freed when it was not used for a while. */
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
   * Loads the session if it is not loaded, and runs the work meanwhile. If loading fails, the next user
   * tries again.
   * @param work is given the promise of the session, so that it can do other things first
   */
  async use<T>(work: (loading: Promise<Session>) => Promise<T>): Promise<T> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#numUsers += 1
    try {
      const loading = this.#load()
      // If the work fails first, nobody else would handle a failing load.
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

  /** Loads the session for a user to come. If none comes, it is freed as after a user. */
  warm(): void {
    // If it fails, the next user tries again and sees the error.
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
    // If loading failed, there is nothing to free.
    await session.then(
      (loaded) => {
        loaded.release()
      },
      () => undefined,
    )
  }
}
