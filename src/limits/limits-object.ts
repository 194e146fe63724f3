import { DurableObject } from 'cloudflare:workers'
import type { Bindings } from '../env.ts'
import type { LeaseCall, LeaseReply, LimitCalls } from './lease-call.ts'
import { countsUse, Ledger, PROJECT, type SubjectState } from './ledger.ts'

const SCHEMA = 'CREATE TABLE IF NOT EXISTS subjects (id TEXT PRIMARY KEY, state TEXT NOT NULL)'

/**
 * The limits of one project: what it and its keys have used, and what its isolates hold of the rest.
 * What was used is stored before an isolate hears of it. Who runs what is in memory: after a restart
 * each isolate says so again within seconds.
 */
export class LimitsObject extends DurableObject<Bindings> implements LimitCalls {
  readonly #ledger = new Ledger()

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    const { sql } = ctx.storage
    sql.exec(SCHEMA)
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

  #store(id: string): void {
    this.ctx.storage.sql.exec(
      'INSERT INTO subjects (id, state) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state',
      id,
      JSON.stringify(this.#ledger.state(id)),
    )
  }
}
