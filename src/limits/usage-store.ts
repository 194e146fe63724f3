import type { UsageMinute } from '../db/usage.ts'
import { hexId } from '../protocol/openai/hex-id.ts'

/** What one answered request used. */
export type UsageEntry = {
  readonly requestId: string
  readonly keyId: string | null
  readonly createdAtMs: number
  readonly route: string
  readonly model: string
  readonly promptTokens: number
  /** Of the prompt's, those whose KV was computed already. */
  readonly cachedTokens: number
  readonly completionTokens: number
}

const MINUTE_MS = 60_000
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS usage (
    request_id TEXT PRIMARY KEY,
    batch TEXT NOT NULL,
    minute_ms INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    route TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL
  );
  CREATE TABLE IF NOT EXISTS usage_batch (id TEXT PRIMARY KEY);
`
const MINUTES = `
  SELECT batch, minute_ms AS minuteMs, key_id AS keyId, route, model, count(*) AS numRequests,
    sum(prompt_tokens) AS promptTokens, sum(cached_tokens) AS cachedTokens,
    sum(completion_tokens) AS completionTokens
  FROM usage`
const GROUPS = 'GROUP BY batch, minute_ms, key_id, route, model'

/**
 * Usage that is not rolled up yet, in the object's own database. Each request belongs to a batch from
 * the start, and a batch that is closed takes no more. So whoever reads both this and D1 can tell
 * what is in both.
 */
export class UsageStore {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec(SCHEMA)
  }

  /** A request that is added again counts once, until it is rolled up. */
  add(entry: UsageEntry): void {
    this.#sql.exec(
      'INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (request_id) DO NOTHING',
      entry.requestId,
      this.#openBatch(),
      entry.createdAtMs - (entry.createdAtMs % MINUTE_MS),
      entry.keyId ?? '',
      entry.route,
      entry.model,
      entry.promptTokens,
      entry.cachedTokens,
      entry.completionTokens,
    )
  }

  minutes(): UsageMinute[] {
    return this.#sql.exec<UsageMinute>(`${MINUTES} ${GROUPS}`).toArray()
  }

  /** Closes the open batch. @returns the sums of the batches that are to be rolled up */
  close(): UsageMinute[] {
    this.#sql.exec('DELETE FROM usage_batch')
    return this.minutes()
  }

  /** Forgets batches that are in D1. */
  clear(batches: ReadonlySet<string>): void {
    for (const batch of batches) this.#sql.exec('DELETE FROM usage WHERE batch = ?', batch)
  }

  #openBatch(): string {
    const [open] = this.#sql.exec<{ id: string }>('SELECT id FROM usage_batch').toArray()
    if (open !== undefined) return open.id
    const id = hexId()
    this.#sql.exec('INSERT INTO usage_batch (id) VALUES (?)', id)
    return id
  }
}
