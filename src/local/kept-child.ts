import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

const FIRST_RESTART_DELAY_MS = 250
const MAX_RESTART_DELAY_MS = 5_000
/** A child that ends after living this long is not in a crash loop. */
const STABLE_MS = 5_000
/** A child that has not ended this long after its standard input closed is killed. */
const STOP_TIMEOUT_MS = 4_000

export interface KeptChildOptions {
  readonly name: string
  /** Starts the process, with pipes for its standard input and output. */
  readonly spawn: () => ChildProcess
  /** Runs before every start and every restart. */
  readonly prepare?: () => Promise<void>
  readonly log: (line: string) => void
  /** Is told the process id when it changes; null while there is no process. */
  readonly onPid?: (pid: number | null) => void
}

/**
 * A child process that is started again whenever it ends, until it is stopped. It prints the line
 * {"event":"ready"} on its standard output when it is ready.
 */
export class KeptChild {
  readonly #options: KeptChildOptions
  #child: ChildProcess | null = null
  #stopping = false
  #restartTimer: NodeJS.Timeout | null = null
  #restartDelayMs = FIRST_RESTART_DELAY_MS

  constructor(options: KeptChildOptions) {
    this.#options = options
  }

  /**
   * Starts the child and waits until it is ready.
   * @throws {Error} the child ended before it was ready; it is not started again
   */
  async start(): Promise<void> {
    await this.#run(true)
  }

  /** Closes the child's standard input and waits for its end. Kills it if it takes too long. */
  async stop(): Promise<void> {
    this.#stopping = true
    if (this.#restartTimer) clearTimeout(this.#restartTimer)
    const child = this.#child
    if (!child) return
    const ended = once(child, 'exit')
    const killTimer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    child.stdin?.end()
    await ended
    clearTimeout(killTimer)
  }

  /** Kills the child at once. */
  kill(): void {
    this.#stopping = true
    this.#child?.kill('SIGKILL')
  }

  async #run(isFirst: boolean): Promise<void> {
    const { name, log, onPid, prepare } = this.#options
    await prepare?.()
    if (this.#stopping) return
    const startedAtMs = Date.now()
    const child = this.#options.spawn()
    this.#child = child
    onPid?.(child.pid ?? null)
    // A write to a dead child must not end this process. The `exit` event tells of the child's end.
    child.stdin?.on('error', () => undefined)

    return new Promise((resolve, reject) => {
      let isReady = false
      createInterface({ input: child.stdout! }).on('line', (line) => {
        if (!isReadyLine(line)) {
          log(`${name}: ${line}`)
          return
        }
        isReady = true
        if (!isFirst) log(`${name} is back`)
        resolve()
      })
      const onEnd = (how: string): void => {
        if (this.#child !== child) return
        this.#child = null
        onPid?.(null)
        if (this.#stopping) {
          resolve()
        } else if (isFirst && !isReady) {
          reject(new Error(`the ${name} ${how} before it was ready`))
        } else {
          if (Date.now() - startedAtMs > STABLE_MS) this.#restartDelayMs = FIRST_RESTART_DELAY_MS
          this.#restartLater(how)
          resolve()
        }
      }
      child.once('error', (error) => {
        onEnd(`could not be run (${error.message})`)
      })
      child.once('exit', (code, signal) => {
        onEnd(signal ? `was ended by ${signal}` : `ended with status ${code ?? 'unknown'}`)
      })
    })
  }

  #restartLater(how: string): void {
    const { name, log } = this.#options
    const delayMs = this.#restartDelayMs
    this.#restartDelayMs = Math.min(delayMs * 2, MAX_RESTART_DELAY_MS)
    log(`the ${name} ${how}; starting it again in ${delayMs} ms`)
    this.#restartTimer = setTimeout(() => {
      this.#run(false).catch((error: unknown) => {
        this.#restartLater(
          `did not start: ${error instanceof Error ? error.message : String(error)}`,
        )
      })
    }, delayMs)
  }
}

function isReadyLine(line: string): boolean {
  try {
    const value: unknown = JSON.parse(line)
    return (
      typeof value === 'object' && value !== null && 'event' in value && value.event === 'ready'
    )
  } catch {
    return false
  }
}
