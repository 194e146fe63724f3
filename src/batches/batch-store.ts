import type { UsageRow } from '../db/usage.ts'
import { hexId } from '../protocol/openai/hex-id.ts'
import type { BatchLine } from '../protocol/openai/batches.ts'
import type { BatchSpec, BatchState } from './batch-spec.ts'

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS batch (key TEXT PRIMARY KEY, value TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS lines (
    number INTEGER PRIMARY KEY,
    custom_id TEXT NOT NULL UNIQUE,
    request_id TEXT NOT NULL,
    body TEXT,
    num_faults INTEGER NOT NULL DEFAULT 0,
    is_done INTEGER NOT NULL DEFAULT 0,
    is_failed INTEGER NOT NULL DEFAULT 0
  );
  CREATE INDEX IF NOT EXISTS waiting ON lines (number) WHERE is_done = 0;
  CREATE TABLE IF NOT EXISTS results (
    line INTEGER NOT NULL,
    piece INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (line, piece)
  );
  CREATE TABLE IF NOT EXISTS usage (line INTEGER PRIMARY KEY, row TEXT NOT NULL);
`

/** A row holds at most 2 MB, and a character takes up to three bytes. */
const MAX_PIECE_CHARS = 500_000

/** A request that waits. */
export type WaitingLine = {
  readonly number: number
  readonly customId: string
  readonly requestId: string
  /** JSON. */
  readonly body: string
  /** How many tries have failed. */
  readonly numFaults: number
}

/** A line of the batch as its files list it. */
export type ListedLine = {
  readonly number: number
  readonly customId: string
  readonly requestId: string
  readonly isDone: boolean
  readonly isFailed: boolean
}

/** Stores a batch in its Durable Object's own database. */
export class BatchStore {
  readonly #storage: DurableObjectStorage
  readonly #sql: SqlStorage

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage
    this.#sql = storage.sql
  }

  create(spec: BatchSpec, state: BatchState): void {
    this.#storage.transactionSync(() => {
      this.#sql.exec(SCHEMA)
      this.#put('spec', spec)
      this.#put('state', state)
    })
  }

  /** @returns null if the object has no batch */
  load(): { readonly spec: BatchSpec; readonly state: BatchState } | null {
    const tables = this.#sql
      .exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'batch'")
      .toArray()
    if (tables.length === 0) return null
    const spec = this.#get('spec')
    const state = this.#get('state')
    if (spec === null || state === null) return null
    return { spec: spec as BatchSpec, state: state as BatchState }
  }

  save(state: BatchState): void {
    this.#put('state', state)
  }

  /** Forgets what an earlier reading of the input file left. */
  forgetLines(): void {
    this.#sql.exec('DELETE FROM lines; DELETE FROM results; DELETE FROM usage')
  }

  /** @returns false if another line has the same `custom_id` */
  addLine(number: number, { custom_id: customId, body }: BatchLine): boolean {
    const added = this.#sql.exec(
      `INSERT INTO lines (number, custom_id, request_id, body) VALUES (?, ?, ?, ?)
       ON CONFLICT (custom_id) DO NOTHING RETURNING number`,
      number,
      customId,
      `req_${hexId()}`,
      JSON.stringify(body),
    )
    return added.toArray().length === 1
  }

  /** The first line after `number` that waits; null if there is none. */
  nextWaiting(number: number): WaitingLine | null {
    const [row] = this.#sql
      .exec<{
        number: number
        custom_id: string
        request_id: string
        body: string
        num_faults: number
      }>(
        `SELECT number, custom_id, request_id, body, num_faults FROM lines
         WHERE is_done = 0 AND number > ? ORDER BY number LIMIT 1`,
        number,
      )
      .toArray()
    if (row === undefined) return null
    return {
      number: row.number,
      customId: row.custom_id,
      requestId: row.request_id,
      body: row.body,
      numFaults: row.num_faults,
    }
  }

  addFault(number: number): void {
    this.#sql.exec('UPDATE lines SET num_faults = num_faults + 1 WHERE number = ?', number)
  }

  /** Writes a line's result, its usage and the batch's state together. */
  finishLine(
    number: number,
    result: { readonly text: string; readonly isFailed: boolean; readonly usage: UsageRow | null },
    state: BatchState,
  ): void {
    const { text, isFailed, usage } = result
    this.#storage.transactionSync(() => {
      this.#sql.exec(
        'UPDATE lines SET is_done = 1, is_failed = ?, body = NULL WHERE number = ?',
        isFailed ? 1 : 0,
        number,
      )
      for (let at = 0; at < text.length; at += MAX_PIECE_CHARS) {
        this.#sql.exec(
          'INSERT INTO results (line, piece, text) VALUES (?, ?, ?)',
          number,
          at / MAX_PIECE_CHARS,
          text.slice(at, at + MAX_PIECE_CHARS),
        )
      }
      if (usage !== null) {
        this.#sql.exec('INSERT INTO usage (line, row) VALUES (?, ?)', number, JSON.stringify(usage))
      }
      this.#put('state', state)
    })
  }

  /** Lines after `number` in the order of the input file. */
  listLines(number: number, limit: number): ListedLine[] {
    return this.#sql
      .exec<{
        number: number
        custom_id: string
        request_id: string
        is_done: number
        is_failed: number
      }>(
        `SELECT number, custom_id, request_id, is_done, is_failed FROM lines
         WHERE number > ? ORDER BY number LIMIT ?`,
        number,
        limit,
      )
      .toArray()
      .map((row) => ({
        number: row.number,
        customId: row.custom_id,
        requestId: row.request_id,
        isDone: row.is_done === 1,
        isFailed: row.is_failed === 1,
      }))
  }

  resultOf(number: number): string {
    return this.#sql
      .exec<{ text: string }>('SELECT text FROM results WHERE line = ? ORDER BY piece', number)
      .toArray()
      .map(({ text }) => text)
      .join('')
  }

  /** Usage that has not been counted yet. */
  usage(limit: number): { readonly line: number; readonly row: UsageRow }[] {
    return this.#sql
      .exec<{ line: number; row: string }>(
        'SELECT line, row FROM usage ORDER BY line LIMIT ?',
        limit,
      )
      .toArray()
      .map(({ line, row }) => ({ line, row: JSON.parse(row) as UsageRow }))
  }

  forgetUsage(lines: readonly number[]): void {
    this.#storage.transactionSync(() => {
      for (const line of lines) this.#sql.exec('DELETE FROM usage WHERE line = ?', line)
    })
  }

  #put(key: 'spec' | 'state', value: BatchSpec | BatchState): void {
    this.#sql.exec(
      'INSERT INTO batch (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
      key,
      JSON.stringify(value),
    )
  }

  #get(key: 'spec' | 'state'): unknown {
    const [row] = this.#sql
      .exec<{ value: string }>('SELECT value FROM batch WHERE key = ?', key)
      .toArray()
    return row === undefined ? null : JSON.parse(row.value)
  }
}
