import { createExecutionContext } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { beforeAll, describe, it, vi } from 'vitest'
import { createApp } from '../../src/app.ts'
import { bootstrapStatements } from '../../src/db/bootstrap.ts'
import { sha256Hex } from '../../src/storage/digest.ts'

describe('the gateway before any resource', () => {
  beforeAll(async () => {
    const hash = await sha256Hex(new TextEncoder().encode('sk-test'))
    for (let round = 0; round < 2; round++) {
      const statements = bootstrapStatements('local', hash)
      await env.DB.batch(statements.map((s) => env.DB.prepare(s.sql).bind(...s.params)))
    }
  })

  it('answers /healthz without a key', async ({ expect }) => {
    const response = await exports.default.fetch('http://gateway/healthz')
    expect(response.status).toBe(200)
  })

  it('answers /healthz 503 where the newest migration is not applied', async ({ expect }) => {
    const empty = {
      ...env,
      DB: {
        prepare: (sql: string) => env.DB.prepare(sql.replace('d1_migrations', 'no_such_table')),
      },
    }
    const older = {
      ...env,
      DB: { prepare: (sql: string) => env.DB.prepare(`${sql} AND id < 0`) },
    }
    for (const bindings of [empty, older]) {
      const response = await createApp().request('/healthz', {}, bindings)
      expect(response.status).toBe(503)
      expect(response.headers.get('retry-after')).toBe('1')
      expect(await response.json()).toMatchObject({ error: { code: 'not_ready' } })
    }
  })

  it('logs a failed query without its parameters', async ({ expect }) => {
    const lines: string[] = []
    vi.spyOn(console, 'error').mockImplementation((line: string) => void lines.push(line))
    const broken = {
      ...env,
      DB: { prepare: (sql: string) => env.DB.prepare(sql.replaceAll('"keys"', '"no_keys"')) },
    }
    const headers = { authorization: 'Bearer sk-of-somebody' }
    const response = await createApp().request('/v1/models', { headers }, broken)
    vi.restoreAllMocks()
    expect(response.status).toBe(500)
    expect(lines).toHaveLength(1)
    expect(lines[0]).toContain('Failed query: select')
    expect(lines[0]).toContain('no such table')
    expect(lines[0]).not.toContain(await sha256Hex(new TextEncoder().encode('sk-of-somebody')))
    expect(lines[0]).not.toMatch(/params/)
  })

  it('answers a body that breaks off 400, and logs no stack of it', async ({ expect }) => {
    const spy = vi.spyOn(console, 'error').mockImplementation(() => undefined)
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode('{"model": '))
        controller.error(new Error('Network connection lost.'))
      },
    })
    const request = new Request('http://gateway/v1/chat/completions', {
      method: 'POST',
      headers: { authorization: 'Bearer sk-test', 'content-type': 'application/json' },
      body,
    })
    const response = await createApp().request(request, {}, env, createExecutionContext())
    expect(spy).not.toHaveBeenCalled()
    vi.restoreAllMocks()
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'incomplete_body' } })
  })

  it('answers 401 invalid_api_key without a key and with a wrong one', async ({ expect }) => {
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'Basic x' }]) {
      const response = await exports.default.fetch('http://gateway/v1/models', { headers })
      expect(response.status).toBe(401)
      expect(await response.json()).toMatchObject({ error: { code: 'invalid_api_key' } })
      expect(response.headers.get('x-request-id')).toMatch(/^req_/)
    }
  })

  it('accepts the bootstrapped key, and answers 404 for an unknown path', async ({ expect }) => {
    const response = await exports.default.fetch('http://gateway/v1/nothing', {
      headers: { authorization: 'Bearer sk-test' },
    })
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ error: { code: 'unknown_url' } })
  })

  it('answers routes of OpenAI that it lacks with what to do instead', async ({ expect }) => {
    for (const path of ['/v1/responses/resp_1', '/v1/embeddings', '/v1/audio/x']) {
      const response = await exports.default.fetch(`http://gateway${path}`, {
        method: 'POST',
        headers: { authorization: 'Bearer sk-test' },
        body: '{}',
      })
      expect(response.status).toBe(404)
      const { error } = await response.json<{ error: { message: string } }>()
      expect(error).toMatchObject({ type: 'invalid_request_error', code: 'unsupported_endpoint' })
      expect(error.message.startsWith(`${path} is not served by this gateway. `)).toBe(true)
    }
  })
})
