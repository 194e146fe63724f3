import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'

/** `GET /openapi.json` describes the API, without a key. */
export const openapi = new Hono<AppEnv>().get('/openapi.json', async (c) => {
  // Loaded when it is first asked for: other requests need none of the answers' schemas.
  const { createDocument } = await import('../openapi/document.ts')
  return c.json(createDocument(new URL(c.req.url).origin))
})
