import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { askRunner } from '../dispatch/ask-runner.ts'
import { readJsonObject } from '../http/read-json.ts'
import { withoutNulls } from '../protocol/openai/nulls.ts'
import { parseWire } from '../protocol/parse.ts'
import { detokenizeRequestSchema, tokenizeRequestSchema } from '../protocol/tokenizer.ts'
import { servicesOf } from '../services.ts'
import { splitModel } from '../tasks/plan.ts'

/** The served model's tokenizer, at the paths where lm-evaluation-harness looks for it. */
export const tokenizer = new Hono<AppEnv>()
  .get('/tokenizer_info', async (c) => {
    const { config, runners } = servicesOf(c.env)
    return c.json(await askRunner(runners, config.baseModel, (client) => client.tokenizerInfo()))
  })
  .post('/tokenize', async (c) => {
    const { config, runners } = servicesOf(c.env)
    const body = withoutNulls(await readJsonObject(c.req.raw))
    const request = parseWire(tokenizeRequestSchema, body)
    splitModel(request.model ?? config.baseModel, config.baseModel)
    return c.json(await askRunner(runners, config.baseModel, (client) => client.tokenize(request)))
  })
  .post('/detokenize', async (c) => {
    const { config, runners } = servicesOf(c.env)
    const body = withoutNulls(await readJsonObject(c.req.raw))
    const request = parseWire(detokenizeRequestSchema, body)
    splitModel(request.model ?? config.baseModel, config.baseModel)
    return c.json(
      await askRunner(runners, config.baseModel, (client) => client.detokenize(request)),
    )
  })
