import { hexId } from '../protocol/openai/hex-id.ts'
import type { JobEvent } from '../protocol/openai/fine-tuning.ts'
import type { FoldTrial, JobSpec, JobState, Trial } from './job-spec.ts'

export type NewEvent = Pick<JobEvent, 'level' | 'type' | 'message'> & {
  readonly data?: JobEvent['data']
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS job (key TEXT PRIMARY KEY, value TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS trials (
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,
    trial INTEGER NOT NULL UNIQUE,
    z TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (round, position)
  );
  CREATE TABLE IF NOT EXISTS fold_trials (
    fold INTEGER NOT NULL,
    trial INTEGER NOT NULL,
    z TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (fold, trial)
  );
  CREATE TABLE IF NOT EXISTS search (piece INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS repeat_search (piece INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    level TEXT NOT NULL,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT
  );
`

/** A search's state is cut into pieces of this size, since a row holds at most 2 MB. */
const MAX_PIECE_BYTES = 1 << 20
type PieceTable = 'search' | 'repeat_search'

/** Stores a job in its Durable Object's own database. All writes of a step are one transaction. */
export class JobStore {
  readonly #storage: DurableObjectStorage
  readonly #sql: SqlStorage

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage
    this.#sql = storage.sql
  }

  create(spec: JobSpec, state: JobState, events: readonly NewEvent[]): void {
    this.#storage.transactionSync(() => {
      this.#sql.exec(SCHEMA)
      this.#put('spec', spec)
      this.#put('state', state)
      this.#addEvents(events)
    })
  }

  /** @returns null if the object has no job */
  load(): { readonly spec: JobSpec; readonly state: JobState } | null {
    const tables = this.#sql
      .exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'job'")
      .toArray()
    if (tables.length === 0) return null
    // The database of a job of an older release lacks the newer tables.
    this.#sql.exec(SCHEMA)
    const spec = this.#get('spec')
    const state = this.#get('state')
    if (spec === null || state === null) return null
    return { spec: completeSpec(spec as JobSpec), state: state as JobState }
  }

  save(
    state: JobState,
    also: {
      readonly events?: readonly NewEvent[]
      readonly trials?: readonly Trial[]
      readonly foldTrials?: readonly FoldTrial[]
      readonly search?: Uint8Array
      readonly repeat?: Uint8Array | null
      readonly forgetTrials?: boolean
    } = {},
  ): void {
    this.#storage.transactionSync(() => {
      if (also.forgetTrials === true) {
        this.#sql.exec(
          'DELETE FROM trials; DELETE FROM fold_trials; DELETE FROM search; ' +
            'DELETE FROM repeat_search',
        )
      }
      if (also.search !== undefined) this.#putPieces('search', also.search)
      if (also.repeat !== undefined) this.#putPieces('repeat_search', also.repeat)
      also.trials?.forEach((trial, position) => {
        this.#sql.exec(
          'INSERT INTO trials (round, position, trial, z, value) VALUES (?, ?, ?, ?, ?)',
          trial.round,
          position,
          trial.index,
          JSON.stringify(trial.z),
          trial.value,
        )
      })
      for (const { fold, index, z, value } of also.foldTrials ?? []) {
        this.#sql.exec(
          'INSERT INTO fold_trials (fold, trial, z, value) VALUES (?, ?, ?, ?)',
          fold,
          index,
          JSON.stringify(z),
          value,
        )
      }
      this.#put('state', state)
      this.#addEvents(also.events ?? [])
    })
  }

  trials(): Trial[] {
    return this.#sql
      .exec<{ round: number; trial: number; z: string; value: number | null }>(
        'SELECT round, trial, z, value FROM trials ORDER BY trial',
      )
      .toArray()
      .map(({ round, trial, z, value }) => ({
        round,
        index: trial,
        z: JSON.parse(z) as number[],
        value,
      }))
  }

  foldTrials(): FoldTrial[] {
    return this.#sql
      .exec<{ fold: number; trial: number; z: string; value: number | null }>(
        'SELECT fold, trial, z, value FROM fold_trials ORDER BY fold, trial',
      )
      .toArray()
      .map(({ fold, trial, z, value }) => ({
        fold,
        index: trial,
        z: JSON.parse(z) as number[],
        value,
      }))
  }

  /** The state that a search keeps beside its trials; null if it has written none. */
  search(): Uint8Array | null {
    return this.#getPieces('search')
  }

  /** The state of a further partition's fit; null if none is running. */
  repeat(): Uint8Array | null {
    return this.#getPieces('repeat_search')
  }

  #getPieces(table: PieceTable): Uint8Array | null {
    const pieces = this.#sql
      .exec<{ bytes: ArrayBuffer }>(`SELECT bytes FROM ${table} ORDER BY piece`)
      .toArray()
    if (pieces.length === 0) return null
    const whole = new Uint8Array(pieces.reduce((sum, { bytes }) => sum + bytes.byteLength, 0))
    let at = 0
    for (const { bytes } of pieces) {
      whole.set(new Uint8Array(bytes), at)
      at += bytes.byteLength
    }
    return whole
  }

  /** Newest first; one more than `limit` if the list goes on. Null if `after` names no event. */
  events(limit: number, after: string | undefined): JobEvent[] | null {
    let before = Number.MAX_SAFE_INTEGER
    if (after !== undefined) {
      const [cursor] = this.#sql
        .exec<{ seq: number }>('SELECT seq FROM events WHERE id = ?', after)
        .toArray()
      if (cursor === undefined) return null
      before = cursor.seq
    }
    return this.#sql
      .exec<{
        id: string
        created_at_ms: number
        level: string
        type: string
        message: string
        data: string | null
      }>('SELECT * FROM events WHERE seq < ? ORDER BY seq DESC LIMIT ?', before, limit + 1)
      .toArray()
      .map((row) => ({
        id: row.id,
        object: 'fine_tuning.job.event',
        created_at: Math.floor(row.created_at_ms / 1000),
        level: row.level as JobEvent['level'],
        type: row.type as JobEvent['type'],
        message: row.message,
        data: row.data === null ? null : (JSON.parse(row.data) as JobEvent['data']),
      }))
  }

  #putPieces(table: PieceTable, bytes: Uint8Array | null): void {
    this.#sql.exec(`DELETE FROM ${table}`)
    if (bytes === null) return
    for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) {
      this.#sql.exec(
        `INSERT INTO ${table} (piece, bytes) VALUES (?, ?)`,
        at / MAX_PIECE_BYTES,
        bytes.slice(at, at + MAX_PIECE_BYTES).buffer,
      )
    }
  }

  #put(key: 'spec' | 'state', value: JobSpec | JobState): void {
    this.#sql.exec(
      'INSERT INTO job (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
      key,
      JSON.stringify(value),
    )
  }

  #get(key: 'spec' | 'state'): unknown {
    const [row] = this.#sql
      .exec<{ value: string }>('SELECT value FROM job WHERE key = ?', key)
      .toArray()
    return row === undefined ? null : JSON.parse(row.value)
  }

  #addEvents(events: readonly NewEvent[]): void {
    for (const { level, type, message, data = null } of events) {
      this.#sql.exec(
        'INSERT INTO events (id, created_at_ms, level, type, message, data) VALUES (?, ?, ?, ?, ?, ?)',
        `ftevent-${hexId()}`,
        Date.now(),
        level,
        type,
        message,
        data === null ? null : JSON.stringify(data),
      )
    }
  }
}

/** Adds the fields that a job of an older release lacks. */
function completeSpec(spec: JobSpec): JobSpec {
  const groups = spec.training.gold.map((_, example) => example)
  return {
    ...{ guard: 'report' as const, force: false, confidence: null, groups, warnings: [] },
    ...{ objective: 'label' as const },
    ...spec,
  }
}
