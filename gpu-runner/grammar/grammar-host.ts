import { Worker } from 'node:worker_threads'
import { GrammarRow } from './grammar-row.ts'
import {
  MASK_NUMBER,
  MASK_STATE,
  sharedMaskBytes,
  STATE_FAILED,
  type FromGrammarWorker,
  type GrammarWorkerData,
  type ToGrammarWorker,
} from './messages.ts'

/** A grammar that the library would not compile within its bounds. */
export class GrammarRefusedError extends Error {
  override readonly name = 'GrammarRefusedError'
}

/**
 * One compiled grammar in a thread of its own. Compiling does not stall the engine, a matcher that
 * never returns harms only requests of the same grammar, and ending the thread frees all its memory.
 */
export class GrammarHost {
  /** Rows that requests hold open. */
  numOpen = 0
  readonly #worker: Worker
  readonly #vocabSize: number
  readonly #rows = new Map<number, Int32Array>()
  #nextId = 0
  #hasEnded = false

  constructor(data: GrammarWorkerData) {
    this.#vocabSize = data.vocabulary.length
    this.#worker = new Worker(new URL('./grammar-worker.ts', import.meta.url), {
      workerData: data,
      execArgv: [],
    })
    this.#worker.unref()
    this.#worker.on('error', (error) => {
      console.error('grammar thread:', error)
    })
    this.#worker.on('exit', () => {
      this.#end()
    })
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /**
   * @param timeoutMs after which the thread is ended
   * @returns how many milliseconds it took
   * @throws {GrammarRefusedError} a malformed grammar, or one over a bound; the thread has ended then
   */
  async compile(ebnf: string, timeoutMs: number): Promise<number> {
    try {
      return await new Promise<number>((resolve, reject) => {
        const timer = setTimeout(() => {
          reject(new GrammarRefusedError(`compiling it took over ${timeoutMs / 1000} s`))
        }, timeoutMs)
        this.#worker.once('message', (message: FromGrammarWorker) => {
          clearTimeout(timer)
          if (message.op === 'compiled') resolve(message.compileMs)
          else reject(new GrammarRefusedError(message.reason))
        })
        this.#worker.once('exit', () => {
          clearTimeout(timer)
          reject(new GrammarRefusedError('its thread ended while compiling it'))
        })
        this.#post({ op: 'compile', ebnf })
      })
    } catch (error) {
      await this.terminate()
      throw error
    }
  }

  /** @returns a row at the grammar's beginning, and a function that gives it back */
  open(now: () => number): { readonly row: GrammarRow; readonly close: () => void } {
    const matcher = this.#nextId++
    const shared = new SharedArrayBuffer(sharedMaskBytes(this.#vocabSize))
    const view = new Int32Array(shared)
    this.#rows.set(matcher, view)
    this.numOpen += 1
    this.#post({ op: 'open', matcher, shared })
    const send = (token: number): void => {
      this.#post({ op: 'accept', matcher, token })
    }
    const close = (): void => {
      if (!this.#rows.delete(matcher)) return
      this.numOpen -= 1
      this.#post({ op: 'close', matcher })
    }
    return { row: new GrammarRow(view, send, now), close }
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate()
    this.#end()
  }

  #post(message: ToGrammarWorker): void {
    if (!this.#hasEnded) this.#worker.postMessage(message)
  }

  #end(): void {
    this.#hasEnded = true
    for (const view of this.#rows.values()) {
      Atomics.store(view, MASK_STATE, STATE_FAILED)
      Atomics.notify(view, MASK_NUMBER)
    }
  }
}
