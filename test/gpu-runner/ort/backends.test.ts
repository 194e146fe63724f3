import { test } from 'vitest'
import { openBackend } from '../../../gpu-runner/ort/index.ts'
import {
  generate,
  openTestRunner,
  randomRotation,
  residentAdapter,
  tokensOf,
} from '../../fixtures/runner.ts'

test('the fallback binding gives the tokens that the C API gives', async ({ expect }) => {
  const answers: number[][][] = []
  for (const name of ['c-api', 'js-binding'] as const) {
    const { backend } = openBackend(name)
    expect(backend.name).toBe(name)
    const runner = await openTestRunner({ maxContext: 256, maxNumSeqs: 3 }, backend)
    const digest = await residentAdapter(runner, randomRotation(runner, 1, 0.6))
    const events = await generate(runner, {
      request_id: name,
      messages: [{ role: 'user', content: 'Say something about rivers and bridges.' }],
      arms: [0, 1, -1].map((weight) => ({
        adapters: [{ digest, weight }],
        scope: 'generated' as const,
      })),
      sampling: { max_tokens: 16, temperature: 0, top_p: 1, stop: [] },
    })
    answers.push([0, 1, 2].map((arm) => tokensOf(events, arm)))
    await runner.release()
  }
  expect(answers[1]).toEqual(answers[0])
  // The adapters act: otherwise the comparison would say nothing about the rotation's inputs.
  expect(answers[0]![1]).not.toEqual(answers[0]![0])
})

test('what is missing makes the faster backend an error only where it is asked for', ({
  expect,
}) => {
  expect(openBackend('js-binding').fallbackReason).toBe('asked for')
  expect(openBackend('c-api').fallbackReason).toBeNull()
})
