import { it } from 'vitest'
import { promptHead } from '../../../src/dispatch/prompt-head.ts'
import type { GenerateRequest } from '../../../src/protocol/runner.ts'

const SYSTEM = 'You sort letters. '.repeat(40)
const request = (question: string, extra: Partial<GenerateRequest> = {}): GenerateRequest => ({
  request_id: 'test',
  tenant: 'a',
  messages: [
    { role: 'system', content: SYSTEM },
    { role: 'user', content: question },
  ],
  arms: [{ adapters: [], scope: 'generated' }],
  sampling: { temperature: 0, top_p: 1, stop: [] },
  ...extra,
})
const adapters = [{ digest: 'f'.repeat(64), weight: 1 }]

it('names alike what can share computed KV, and nothing else', ({ expect }) => {
  const name = promptHead(request('one'))
  expect(promptHead(request('two'))).toBe(name)
  // An adapter of this scope does not act on the prompt.
  expect(promptHead(request('one', { arms: [{ adapters, scope: 'generated' }] }))).toBe(name)
  expect(promptHead(request('one', { arms: [{ adapters, scope: 'all' }] }))).not.toBe(name)
  expect(promptHead(request('one', { tenant: 'b' }))).not.toBe(name)
  const { arms, sampling } = request('')
  const ofText = (prompt: string | number[]) =>
    promptHead({ request_id: 'test', arms, sampling, prompt })
  expect(ofText(`${SYSTEM}one`)).toBe(ofText(`${SYSTEM}two`))
  expect(ofText('one')).not.toBe(ofText('two'))
  expect(ofText([1, 2])).not.toBe(ofText([1, 3]))
})
