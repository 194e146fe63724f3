import { env, exports } from 'cloudflare:workers'
import { beforeAll, describe, it } from 'vitest'
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

  it('answers 401 invalid_api_key without a key and with a wrong one', async ({ expect }) => {
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'Basic x' }]) {
      const response = await exports.default.fetch('http://gateway/v1/models', { headers })
      expect(response.status).toBe(401)
      expect(await response.json()).toMatchObject({ error: { code: 'invalid_api_key' } })
      expect(response.headers.get('x-request-id')).toMatch(/^req_/)
    }
  })

  it('takes the bootstrapped key and says 404 for what is not there', async ({ expect }) => {
    const response = await exports.default.fetch('http://gateway/v1/nothing', {
      headers: { authorization: 'Bearer sk-test' },
    })
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ error: { code: 'unknown_url' } })
  })

  it('says of what OpenAI has and this gateway does not what to do instead', async ({ expect }) => {
    for (const path of ['/v1/responses', '/v1/responses/resp_1', '/v1/embeddings', '/v1/batches']) {
      const response = await exports.default.fetch(`http://gateway${path}`, {
        method: 'POST',
        headers: { authorization: 'Bearer sk-test' },
        body: '{}',
      })
      expect(response.status).toBe(404)
      const { error } = await response.json<{ error: { message: string } }>()
      expect(error).toMatchObject({ type: 'invalid_request_error', code: 'unsupported_endpoint' })
      expect(error.message).toMatch(/^\/v1\/\w+ is not served by this gateway\. \S/)
    }
  })
})
