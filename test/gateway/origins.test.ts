import { env } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { describe, it } from 'vitest'
import { createApp } from '../../src/app.ts'
import type { Bindings } from '../../src/env.ts'
import { client, useFreshProject } from './fresh-project.ts'
import { makeProject, MODEL } from './harness.ts'

useFreshProject()

const APP = 'https://app.example'
const PREFLIGHT = {
  'access-control-request-method': 'POST',
  'access-control-request-headers': 'authorization,content-type,x-task',
}
const withOrigins = (text: string): Bindings => ({ ...env, ALLOWED_ORIGINS: text })

/** Asks a gateway whose operator allows `origins`. */
async function ask(
  origins: string,
  method: string,
  path: string,
  headers: Record<string, string>,
  body?: object,
) {
  const init = { method, headers, ...(body && { body: JSON.stringify(body) }) }
  const request = new Request(`http://gateway${path}`, init)
  return createApp().fetch(request, withOrigins(origins), createExecutionContext())
}

describe('a page of an allowed origin', () => {
  it('gets its preflight answered without a key', async ({ expect }) => {
    for (const path of ['/v1/chat/completions', '/v1/files/file-1', '/tokenize']) {
      const response = await ask(`https://other.example, ${APP}`, 'OPTIONS', path, {
        origin: APP,
        ...PREFLIGHT,
      })
      expect(response.status).toBe(204)
      const { headers } = response
      expect(headers.get('access-control-allow-origin')).toBe(APP)
      expect(headers.get('access-control-allow-methods')).toBe('GET,POST,DELETE')
      expect(headers.get('access-control-allow-headers')).toBe('authorization,content-type,x-task')
      expect(headers.get('access-control-max-age')).toBe('600')
      expect(headers.get('vary')).toContain('Origin')
    }
  })

  it('may read every answer, failures and streams too', async ({ expect }) => {
    const { key } = await makeProject()
    const auth = { origin: APP, authorization: `Bearer ${key}` }
    const chat = { model: MODEL, messages: [{ role: 'user', content: 'Hi' }] }
    const answers = [
      [200, await ask(APP, 'POST', '/v1/chat/completions', auth, chat)],
      [200, await ask(APP, 'POST', '/v1/chat/completions', auth, { ...chat, stream: true })],
      [200, await ask(APP, 'GET', '/v1/models', auth)],
      [400, await ask(APP, 'POST', '/v1/chat/completions', auth, {})],
      [401, await ask(APP, 'GET', '/v1/models', { origin: APP })],
      [404, await ask(APP, 'GET', '/v1/nothing', auth)],
    ] as const
    for (const [status, response] of answers) {
      expect(response.status).toBe(status)
      expect(response.headers.get('access-control-allow-origin')).toBe(APP)
      expect(response.headers.get('access-control-expose-headers')).toBe('*')
      expect(response.headers.get('vary')).toBe('Origin')
      await response.text()
    }
  })

  it('is any page’s if the operator says `*`, and the gateway’s own always', async ({ expect }) => {
    for (const [origins, origin, allowed] of [
      ['*', APP, '*'],
      ['', 'http://gateway', 'http://gateway'],
      [APP, 'http://gateway', 'http://gateway'],
      ['HTTPS://App.Example/', APP, APP],
    ] as const) {
      const response = await ask(origins, 'OPTIONS', '/v1/models', { origin, ...PREFLIGHT })
      expect(response.status).toBe(204)
      expect(response.headers.get('access-control-allow-origin')).toBe(allowed)
    }
  })
})

describe('a page of another origin', () => {
  it('gets no headers that allow it', async ({ expect }) => {
    for (const origin of [
      'https://evil.example',
      'https://app.example.evil',
      'null',
      'http://app.example',
    ]) {
      const preflight = await ask(APP, 'OPTIONS', '/v1/models', { origin, ...PREFLIGHT })
      expect(preflight.status).toBe(401)
      expect(preflight.headers.has('access-control-allow-origin')).toBe(false)
      expect(preflight.headers.get('vary')).toBe('Origin')
    }
    const answer = await client.call('GET', '/v1/models', undefined, { origin: APP })
    expect(answer.status).toBe(200)
    expect(answer.headers.has('access-control-allow-origin')).toBe(false)
  })
})
