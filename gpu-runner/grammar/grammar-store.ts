import pLimit from 'p-limit'
import { createHash } from 'node:crypto'
import type { RunnerResponseFormat } from '../../src/protocol/response-format.ts'
import { RunnerFault } from '../runner-fault.ts'
import { byteLevelText } from '../tokenizer/byte-level.ts'
import type { ChatTokenizer } from '../tokenizer/index.ts'
import { GrammarHost, GrammarRefusedError } from './grammar-host.ts'
import type { GrammarRow } from './grammar-row.ts'
import { SchemaError, type ReadSchema } from './schema/node.ts'
import { readSchema } from './schema/read-schema.ts'
import { writeEbnf } from './schema/write-ebnf.ts'

export type GrammarStoreOptions = {
  /** Compiled grammars kept, each a thread with some 30 MB. */
  readonly maxGrammars: number
  readonly compileTimeoutMs: number
  /** Memory that one grammar's thread may take for compiling and matching. */
  readonly maxHeapBytes: number
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

/** Refusals remembered, so that a schema over the bounds is compiled only once. */
const MAX_REFUSALS = 256
/** Requests that may wait for a compilation, the one under way included. */
const MAX_WAITING = 16

/** An open grammar with a row for each arm; to be closed once. */
export type OpenGrammar = {
  readonly rows: readonly GrammarRow[]
  /** JSON pointers to the keywords of the caller's schemas that it does not enforce. */
  readonly hints: readonly string[]
  readonly close: () => void
}

/** A grammar in XGrammar's EBNF, not yet compiled. */
export type WrittenGrammar = { readonly ebnf: string; readonly hints: readonly string[] }

type OpenRows = Omit<OpenGrammar, 'hints'>

/** Compiled grammars. One is compiled at a time; the least recently used makes room for a new one. */
export class GrammarStore {
  readonly #options: GrammarStoreOptions
  readonly #tokenizer: ChatTokenizer
  readonly #hosts = new Map<string, GrammarHost>()
  readonly #refusals = new Map<string, string>()
  readonly #compiling = pLimit(1)
  #vocabulary: readonly string[] | null = null
  #numWaiting = 0

  constructor(tokenizer: ChatTokenizer, options: GrammarStoreOptions) {
    this.#tokenizer = tokenizer
    this.#options = options
  }

  get size(): number {
    return this.#hosts.size
  }

  /** Rows in use. */
  get numOpen(): number {
    return [...this.#hosts.values()].reduce((sum, { numOpen }) => sum + numOpen, 0)
  }

  /**
   * @param numRows a row for each arm, each at the grammar's beginning
   * @throws {RunnerFault} invalid_request naming a keyword that no grammar enforces, or a bound that the
   *   schema exceeds; over_capacity where every grammar kept is in use
   */
  async open(format: RunnerResponseFormat, numRows: number): Promise<OpenGrammar> {
    return this.openWritten(writeFormat(format), numRows, 'response_format')
  }

  /**
   * @param param the request's field that asks for it
   * @throws {RunnerFault} as {@link open}
   */
  async openWritten(
    { ebnf, hints }: WrittenGrammar,
    numRows: number,
    param: string,
  ): Promise<OpenGrammar> {
    return { ...(await this.#openEbnf(ebnf, numRows, param)), hints }
  }

  async #openEbnf(ebnf: string, numRows: number, param: string): Promise<OpenRows> {
    const key = createHash('sha256').update(ebnf).digest('hex')
    const known = this.#lookup(key, param)
    if (known) return this.#openRows(known, numRows)
    if (this.#numWaiting >= MAX_WAITING) {
      throw new RunnerFault('over_capacity', `${MAX_WAITING} requests wait for a grammar`)
    }
    this.#numWaiting += 1
    try {
      return await this.#compiling(async () => {
        // The compilation before may have been of the same grammar. The rows are opened here, before
        // the next compilation could evict it.
        const host = this.#lookup(key, param) ?? (await this.#compile(key, ebnf, param))
        return this.#openRows(host, numRows)
      })
    } finally {
      this.#numWaiting -= 1
    }
  }

  #openRows(host: GrammarHost, numRows: number): OpenRows {
    const opened = Array.from({ length: numRows }, () => host.open(this.#options.now))
    return {
      rows: opened.map(({ row }) => row),
      close: () => {
        for (const { close } of opened) close()
      },
    }
  }

  async release(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.terminate()))
    this.#hosts.clear()
  }

  #lookup(key: string, param: string): GrammarHost | null {
    const refusal = this.#refusals.get(key)
    if (refusal !== undefined) throw refused(refusal, param)
    const host = this.#hosts.get(key)
    if (!host) return null
    this.#hosts.delete(key)
    if (host.hasEnded) return null
    this.#hosts.set(key, host)
    return host
  }

  async #compile(key: string, ebnf: string, param: string): Promise<GrammarHost> {
    await this.#makeRoom()
    this.#vocabulary ??= Array.from({ length: this.#tokenizer.vocabSize }, (_, id) =>
      byteLevelText(this.#tokenizer.textBytesOf(id) ?? new Uint8Array()),
    )
    const { maxHeapBytes, compileTimeoutMs } = this.#options
    const stopIds = [...this.#tokenizer.stopIds]
    const host = new GrammarHost({ vocabulary: this.#vocabulary, stopIds, maxHeapBytes })
    try {
      await host.compile(ebnf, compileTimeoutMs)
    } catch (error) {
      if (!(error instanceof GrammarRefusedError)) throw error
      if (this.#refusals.size >= MAX_REFUSALS) {
        this.#refusals.delete(this.#refusals.keys().next().value!)
      }
      this.#refusals.set(key, error.message)
      throw refused(error.message, param)
    }
    this.#hosts.set(key, host)
    return host
  }

  async #makeRoom(): Promise<void> {
    if (this.#hosts.size < this.#options.maxGrammars) return
    const idle = [...this.#hosts].find(([, host]) => host.numOpen === 0)
    if (!idle) {
      throw new RunnerFault('over_capacity', `${this.#hosts.size} response formats are in use`)
    }
    this.#hosts.delete(idle[0])
    await idle[1].terminate()
  }
}

/** @throws {RunnerFault} naming a keyword that no grammar enforces */
function writeFormat(format: RunnerResponseFormat): WrittenGrammar {
  const read = readFormat(format)
  return { ebnf: writeEbnf(read), hints: read.hints }
}

/**
 * @param targetPrefix tells its references from those of other schemas in one grammar
 * @throws {RunnerFault} naming a keyword that no grammar enforces
 */
export function readFormat(format: RunnerResponseFormat, targetPrefix = ''): ReadSchema {
  const { schema, strict } =
    format.type === 'json_schema' ? format : { schema: { type: 'object' }, strict: true }
  try {
    return readSchema(schema, { targetPrefix, isStrict: strict === true })
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error
    throw new RunnerFault('invalid_request', `the schema cannot be enforced: ${error.message}`, {
      param: 'response_format',
    })
  }
}

const refused = (reason: string, param: string): RunnerFault =>
  new RunnerFault('invalid_request', `the schema is too complex: ${reason}`, { param })
