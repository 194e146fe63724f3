import { DurableObject } from 'cloudflare:workers'
import { insertUsageMinutes, type UsageMinute } from '../db/usage.ts'
import type { Bindings } from '../env.ts'
import type { LeaseCall, LeaseReply, LimitCalls } from './lease-call.ts'
import { countsUse, Ledger, PROJECT, type SubjectState } from './ledger.ts'

import { UsageStore, type UsageEntry } from './usage-store.ts'

/** How often usage goes to D1. */
const ROLLUP_MS = 60_000
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS subjects (id TEXT PRIMARY KEY, state TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS project (id TEXT PRIMARY KEY);
`

/**
 * The limits of one project: what it and its keys have used, and what its isolates hold of the rest.
 * What was used is stored before an isolate hears of it. Who runs what is in memory: after a restart
 * each isolate says so again within seconds.
 *
 * It also gathers the project's usage, and an alarm rolls it up into D1 each minute.
 */
export class LimitsObject extends DurableObject<Bindings> implements LimitCalls {
  readonly #ledger = new Ledger()
  readonly #usage: UsageStore

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    const { sql } = ctx.storage
    sql.exec(SCHEMA)
    this.#usage = new UsageStore(sql)
    const rows = sql.exec<{ id: string; state: string }>('SELECT id, state FROM subjects')
    for (const { id, state } of rows) this.#ledger.restore(id, JSON.parse(state) as SubjectState)
  }

  // Asynchronous only because the interface is, which a stub's methods are.
  // eslint-disable-next-line @typescript-eslint/require-await
  async exchange(call: LeaseCall): Promise<LeaseReply> {
    const reply = this.#ledger.exchange(call, Date.now())
    if (countsUse(call.limits)) for (const id of [PROJECT, call.keyId]) this.#store(id)
    return reply
  }

  async addUsage(projectId: string, entry: UsageEntry): Promise<void> {
    this.ctx.storage.sql.exec('INSERT INTO project VALUES (?) ON CONFLICT DO NOTHING', projectId)
    this.#usage.add(entry)
    if ((await this.ctx.storage.getAlarm()) === null) {
      await this.ctx.storage.setAlarm(Date.now() + ROLLUP_MS)
    }
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async openUsage(): Promise<UsageMinute[]> {
    return this.#usage.minutes()
  }

  /**
   * Rolls usage up. D1 has each batch once, however often a crash repeats this. The platform gives an
   * alarm up after six tries that throw, so this one never throws.
   */
  override async alarm(): Promise<void> {
    const { sql } = this.ctx.storage
    const [project] = sql.exec<{ id: string }>('SELECT id FROM project').toArray()
    const minutes = this.#usage.close()
    if (project === undefined || minutes.length === 0) return
    try {
      await insertUsageMinutes(this.env.DB, project.id, minutes)
      this.#usage.clear(new Set(minutes.map(({ batch }) => batch)))
      // Requests that came meanwhile are in a batch of their own.
      if (this.#usage.minutes().length > 0) await this.ctx.storage.setAlarm(Date.now() + ROLLUP_MS)
    } catch (error) {
      console.error(
        JSON.stringify({ event: 'usage_rollup_failed', project: project.id, error: String(error) }),
      )
      await this.ctx.storage.setAlarm(Date.now() + ROLLUP_MS)
    }
  }

  #store(id: string): void {
    this.ctx.storage.sql.exec(
      'INSERT INTO subjects (id, state) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state',
      id,
      JSON.stringify(this.#ledger.state(id)),
    )
  }
}
