/** Random zod schemas asked of the real model through the official client's own parser. */
import OpenAI, { APIError } from 'openai'
import { LengthFinishReasonError } from 'openai/core/error'
import { zodResponseFormat } from 'openai/helpers/zod'
import { beforeAll, describe, it } from 'vitest'
import { z } from 'zod'
import { createRng } from '../../gpu-runner/sampling/rng.ts'
import { sharedStack } from '../fixtures/shared-stack.ts'
import { randomObject } from '../gpu-runner/grammar/random-zod.ts'

const NUM_SCHEMAS = 10

let openai: OpenAI
beforeAll(async () => {
  const { baseUrl, apiKey } = await sharedStack()
  openai = new OpenAI({ baseURL: baseUrl, apiKey, maxRetries: 0 })
})

describe('answers to random schemas', () => {
  it('are parsed by the client wherever they end', async ({ expect }) => {
    const random = createRng(40)
    // Of leaves for the most part: this small model seldom ends a deep one, and on another processor
    // it writes other texts. The first two end in any case.
    const schemas = [
      z.object({ isSure: z.boolean() }),
      z.object({ colour: z.enum(['red', 'green']) }),
      ...Array.from({ length: NUM_SCHEMAS }, (_, i) =>
        randomObject(random, i < 8 ? 1 : 2, { isRaw: false }),
      ),
    ]
    let numParsed = 0
    for (const schema of schemas) {
      try {
        const { choices } = await openai.chat.completions.parse({
          model: 'smollm2-135m-instruct',
          messages: [{ role: 'user', content: 'Make up some data.' }],
          temperature: 0,
          max_completion_tokens: 240,
          response_format: zodResponseFormat(schema, 'answer'),
        })
        expect(schema.safeParse(choices[0]!.message.parsed).success).toBe(true)
        numParsed += 1
      } catch (error) {
        if (error instanceof LengthFinishReasonError) continue
        if (!(error instanceof APIError)) throw error
        expect(error).toMatchObject({ status: 400, param: 'response_format' })
        // A slow machine does not compile every grammar in time, and says so.
        expect(error.message).toMatch(/"\w+".* at #|too complex/)
      }
    }
    expect(numParsed).toBeGreaterThan(1)
  })
})
