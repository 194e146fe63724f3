import { env } from 'cloudflare:workers'
import { it } from 'vitest'
import { receiveUpload } from '../../../src/files/upload.ts'
import { readJsonObject } from '../../../src/http/read-json.ts'

/** A body that breaks off after its first bytes, as if its client had disconnected. */
const brokenBody = (start: string, contentType: string): Request =>
  new Request('http://gateway/', {
    method: 'POST',
    headers: { 'content-type': contentType },
    body: new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(start))
      },
      pull(controller) {
        controller.error(new TypeError('Network connection lost.'))
      },
    }),
  })

const refusal = { name: 'ApiError', status: 400, code: 'incomplete_body' }

it('a JSON body that breaks off is the caller’s fault', async ({ expect }) => {
  await expect(readJsonObject(brokenBody('{"model":', 'application/json'))).rejects.toMatchObject(
    refusal,
  )
})

it('an upload that breaks off is the caller’s fault, and nothing is stored', async ({ expect }) => {
  const start =
    '--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n{"input":"a"'
  const request = brokenBody(start, 'multipart/form-data; boundary=b')
  await expect(receiveUpload(request, env.BLOBS, 'broken/upload')).rejects.toMatchObject(refusal)
  expect(await env.BLOBS.head('broken/upload')).toBeNull()
})
