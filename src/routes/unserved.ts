import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { ApiError } from '../protocol/openai/error.ts'

/**
 * Parts of OpenAI's API that clients may try and this gateway does not serve, each with the reason.
 */
const UNSERVED: Readonly<Record<string, string>> = {
  // Not /*, which would match /v1/responses itself.
  '/v1/responses/:id{.+}': 'No answer is kept: POST /v1/responses gives it once.',
  '/v1/conversations/*': 'Nothing is kept: send the whole conversation in each request.',
  '/v1/embeddings/*': 'The served model is a decoder without an embedding of its own for a text.',
  '/v1/moderations/*': 'No moderation model is served.',
  '/v1/audio/*': 'The served model reads and writes text only.',
  '/v1/images/*': 'The served model reads and writes text only.',
  '/v1/assistants/*': 'Use /v1/chat/completions with tools.',
  '/v1/threads/*': 'Use /v1/chat/completions, which holds a whole conversation in each request.',
}

export const unserved = new Hono<AppEnv>()
for (const [path, why] of Object.entries(UNSERVED)) {
  unserved.all(path, (c) => {
    // 404 and not 501, because clients retry a 5xx on their own.
    throw new ApiError(404, `${c.req.path} is not served by this gateway. ${why}`, {
      code: 'unsupported_endpoint',
    })
  })
}
