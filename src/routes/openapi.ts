import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'

/** The API's description, without a key: `GET /openapi.json` for programs, `GET /docs` for readers. */
export const openapi = new Hono<AppEnv>()
  .get('/openapi.json', async (c) => {
    // Loaded when it is first asked for: other requests need none of the answers' schemas.
    const { createDocument } = await import('../openapi/document.ts')
    return c.json(createDocument(new URL(c.req.url).origin))
  })
  .get('/docs', async (c) => {
    const { createDocument } = await import('../openapi/document.ts')
    const { createPage } = await import('../openapi/page.ts')
    const { html, policy } = await createPage(createDocument(new URL(c.req.url).origin))
    return c.html(html, 200, {
      'content-security-policy': policy,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    })
  })
