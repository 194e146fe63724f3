import { request } from 'node:http'
import type { Database, Statement } from './migrate.ts'

/**
 * A second Worker beside the gateway's, on the same D1. It runs any statements that it is sent, so
 * its socket is private. The gateway's own Worker has no such access, here or in production.
 */
export const SETUP_WORKER = `export default {
  async fetch(request, { DB }) {
    const statements = await request.json()
    try {
      const results = await DB.batch(
        statements.map(({ sql, params }) => DB.prepare(sql).bind(...params)),
      )
      return Response.json(results.map(({ results }) => results))
    } catch (error) {
      return new Response(error.message, { status: 500 })
    }
  },
}`

type Values = readonly (string | number)[]

class SetupStatement implements Statement {
  readonly sql: string
  readonly params: Values
  readonly #run: (statements: readonly SetupStatement[]) => Promise<unknown[][]>

  constructor(
    run: (statements: readonly SetupStatement[]) => Promise<unknown[][]>,
    sql: string,
    params: Values = [],
  ) {
    this.#run = run
    this.sql = sql
    this.params = params
  }

  bind(...values: (string | number)[]): Statement {
    return new SetupStatement(this.#run, this.sql, values)
  }

  async all(): Promise<{ results: unknown[] }> {
    const [results] = await this.#run([this])
    return { results: results ?? [] }
  }

  async run(): Promise<unknown> {
    return this.all()
  }

  toJSON(): { readonly sql: string; readonly params: Values } {
    return { sql: this.sql, params: this.params }
  }
}

/** Opens the gateway's D1 through the setup Worker's socket. A batch is one transaction. */
export function openSetupDatabase(socketPath: string): Database {
  const run = async (statements: readonly unknown[]): Promise<unknown[][]> => {
    const { status, text } = await post(socketPath, JSON.stringify(statements))
    if (status !== 200) throw new Error(text)
    return JSON.parse(text) as unknown[][]
  }
  return {
    prepare: (sql) => new SetupStatement(run, sql),
    batch: run,
  }
}

function post(socketPath: string, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method: 'POST', path: '/' }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text })
      })
      response.on('error', reject)
    })
    call.on('error', reject)
    call.end(body)
  })
}
