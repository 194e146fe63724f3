import { test } from 'vitest'
import { openBackend } from '../../../gpu-runner/ort/index.ts'
import type { GenerateEvent, GenerateRequest } from '../../../src/protocol/runner.ts'
import { randomRotationBytes } from '../../fixtures/adapter-bytes.ts'
import { startRunnerProcess } from '../../fixtures/runner-process.ts'
import { generate, openTestRunner, tokensOf } from '../../fixtures/runner.ts'

const hidden = new URL('../../fixtures/without-koffi.ts', import.meta.url).href
const WITHOUT_C_API = { NODE_OPTIONS: `--import=${hidden}` }

test('a runner without the C API uses the binding, says why, and gives the same tokens', async ({
  expect,
}) => {
  const adapter = await randomRotationBytes(1)
  const wire: GenerateRequest = {
    request_id: 'backends',
    messages: [{ role: 'user', content: 'Say something about rivers and bridges.' }],
    arms: [0, 1, -1].map((weight) => ({
      adapters: [{ digest: adapter.digest, weight }],
      scope: 'generated' as const,
    })),
    sampling: { max_tokens: 16, temperature: 0, top_p: 1, stop: [] },
  }
  const here = await openTestRunner({ maxContext: 256, maxNumSeqs: 3 })
  here.adapters.put(adapter.digest, adapter.bytes)
  const events = await generate(here, wire)
  await here.release()
  const answers = [0, 1, 2].map((arm) => tokensOf(events, arm))
  // The adapters act: otherwise the comparison would say nothing about the rotation's inputs.
  expect(answers[1]).not.toEqual(answers[0])

  const runner = await startRunnerProcess({
    ...WITHOUT_C_API,
    ARCANA_MAX_CONTEXT: '256',
    ARCANA_MAX_NUM_SEQS: '3',
  })
  try {
    expect(runner.stderr()).toMatch(/JS binding is in use, .* than its C API: .*koffi/)
    expect(await (await runner.call('/v1/status')).json()).toMatchObject({
      ort_backend: 'js-binding',
    })
    const path = `/v1/adapters/${adapter.digest}`
    expect((await runner.call(path, { method: 'PUT', body: adapter.bytes })).ok).toBe(true)
    const given: GenerateEvent[] = []
    for await (const event of runner.generate(wire)) given.push(event)
    expect([0, 1, 2].map((arm) => tokensOf(given, arm))).toEqual(answers)
  } finally {
    await runner.stop()
  }
})

test('a runner without the C API does not start if its settings demand it', async ({ expect }) => {
  const start = startRunnerProcess({ ...WITHOUT_C_API, ARCANA_ORT_BACKEND: 'c-api' })
  await expect(start).rejects.toThrow(/koffi-\S+ is not installed/)
})

test('no reason is given if the C API loads', ({ expect }) => {
  expect(openBackend('c-api').fallbackReason).toBeNull()
  expect(openBackend('js-binding').fallbackReason).toBe('asked for')
})
