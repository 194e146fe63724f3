import { Validator } from '@seriousme/openapi-schema-validator'
import { describe, it } from 'vitest'
import { sharedStack } from '../fixtures/shared-stack.ts'

describe('GET /openapi.json', () => {
  it('gives a valid OpenAPI 3.1 document without a key', async ({ expect }) => {
    const { baseUrl } = await sharedStack()
    const { origin } = new URL(baseUrl)
    const response = await fetch(`${origin}/openapi.json`)
    expect(response.status).toBe(200)
    const document = (await response.json()) as Record<string, unknown>
    expect(document).toMatchObject({ openapi: '3.1.0', servers: [{ url: origin }] })
    expect(await new Validator().validate(structuredClone(document))).toEqual({ valid: true })
    const broken = { ...document, info: {} }
    expect((await new Validator().validate(broken)).valid).toBe(false)
  })
})
