import { createHash } from 'node:crypto'
import { beforeAll, describe, it } from 'vitest'
import { LabelTries } from '../../../gpu-runner/admission/label-tries.ts'
import { openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import { DatasetStore } from '../../../gpu-runner/scoring/dataset-store.ts'
import { ChatTokenizer } from '../../../gpu-runner/tokenizer/index.ts'
import type { Dataset } from '../../../src/protocol/runner-scoring.ts'
import { modelPath } from '../../fixtures/model.ts'

const MAX_CONTEXT = 128

let tokenizer: ChatTokenizer
beforeAll(async () => {
  const file = await openGguf(await modelPath())
  tokenizer = ChatTokenizer.fromGguf(file.metadata)
  await file.close()
})

const newStore = () =>
  new DatasetStore({ tokenizer, tries: new LabelTries(tokenizer), maxContext: MAX_CONTEXT })

function put(texts: readonly string[]) {
  const store = newStore()
  const dataset: Dataset = {
    labels: ['yes', 'no'],
    examples: texts.map((content, i) => ({ messages: [{ role: 'user', content }], label: i % 2 })),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(dataset))
  return store.put(createHash('sha256').update(bytes).digest('hex'), bytes)
}

describe('a dataset', () => {
  it('names every example past the context, not only the first', ({ expect }) => {
    const long = 'word '.repeat(MAX_CONTEXT)
    expect(() => put(['short', long, 'short', long])).toThrow(
      expect.objectContaining({
        code: 'context_length_exceeded',
        message: expect.stringMatching(/of 4 examples, 2 are past .*: number 2, 4$/) as string,
        details: { param: 'examples.1.messages' },
      }),
    )
    expect(() => put([...new Array<string>(25).fill(long)])).toThrow(/ 20 and 5 more$/)
  })

  it('is measured exactly without being kept', async ({ expect }) => {
    const chats = Array.from({ length: MAX_CONTEXT }, (_, i) => [
      { role: 'user' as const, content: `word${' word'.repeat(i)}` },
    ])
    const store = newStore()
    const fits = (dataset: Dataset): boolean => {
      const bytes = new TextEncoder().encode(JSON.stringify(dataset))
      try {
        newStore().put(createHash('sha256').update(bytes).digest('hex'), bytes)
        return true
      } catch {
        return false
      }
    }
    const labels = ['no, not at all', 'no, not ever']
    const labelled = chats.map((messages) => ({ messages, label: 0 }))
    const targets = chats.map((messages) => ({ messages, target: 'an answer of some length' }))
    const ofLabels = await store.measure({ labels, examples: labelled })
    const ofTargets = await store.measure({ examples: targets })
    const prompts = await store.measure({ examples: chats.map((messages) => ({ messages })) })
    for (const [found, dataset] of [
      [ofLabels, { labels, examples: labelled }],
      [ofTargets, { examples: targets }],
    ] as const) {
      const [first] = found
      expect(found).toEqual(chats.map((_, i) => i).slice(first))
      const one = (i: number) => ({ ...dataset, examples: [dataset.examples[i]!] }) as Dataset
      expect(fits(one(first! - 1))).toBe(true)
      expect(fits(one(first!))).toBe(false)
    }
    expect(prompts.length).toBeLessThan(ofLabels.length)
    expect(ofLabels.length).toBeLessThan(ofTargets.length)
  })

  it('knows the common beginning and end of its prompts', ({ expect }) => {
    const { prompts, sharedEnds } = put(['one sheep', 'two sheep and a dog', 'red'])
    const { start, end } = sharedEnds
    for (const side of [
      (own: readonly number[]) => own.slice(0, start),
      (own: readonly number[]) => own.slice(-end),
    ]) {
      expect(new Set(prompts.map((own) => side(own).join())).size).toBe(1)
      expect(new Set(prompts.map((own) => side(own).length)).size).toBe(1)
    }
    expect(new Set(prompts.map((own) => own[start])).size).toBeGreaterThan(1)
    expect(new Set(prompts.map((own) => own.at(-1 - end))).size).toBeGreaterThan(1)
    const same = put(['again', 'again'])
    expect(same.sharedEnds).toEqual({ start: same.prompts[0]!.length, end: 0 })
  })

  it('with examples that fit is kept as tokens', ({ expect }) => {
    const { prompts, answers } = put(['short', 'word '.repeat(20)])
    expect(answers).toMatchObject({ kind: 'labels', gold: [0, 1] })
    expect(prompts[1]!.length).toBeGreaterThan(prompts[0]!.length)
    expect(prompts[1]!.length).toBeLessThan(MAX_CONTEXT)
  })
})
