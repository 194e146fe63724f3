import fc from 'fast-check'
import { describe, test } from 'vitest'
import {
  createLogitsProcessors,
  TokenHistory,
} from '../../../gpu-runner/sampling/logits-processors/index.ts'

const VOCAB = 12
const ids = fc.array(fc.integer({ min: 0, max: VOCAB - 1 }), { maxLength: 20 })
const logitValues = fc.array(fc.double({ min: -20, max: 20, noNaN: true }), {
  minLength: VOCAB,
  maxLength: VOCAB,
})
const penalty = fc.double({ min: -2, max: 2, noNaN: true })
const shaping = fc.record({
  logit_bias: fc.array(
    fc.tuple(
      fc.integer({ min: 0, max: VOCAB - 1 }),
      fc.double({ min: -100, max: 100, noNaN: true }),
    ),
    { maxLength: 6 },
  ),
  repetition_penalty: fc.double({ min: 0.1, max: 10, noNaN: true }),
  presence_penalty: penalty,
  frequency_penalty: penalty,
})

const historyOf = (prompt: readonly number[], answer: readonly number[]): TokenHistory => {
  const history = new TokenHistory(prompt)
  for (const id of answer) history.push(id)
  return history
}

describe('logits processors', () => {
  test('the chain is bias, repetition, then presence and frequency, token by token', ({
    expect,
  }) => {
    fc.assert(
      fc.property(logitValues, ids, ids, shaping, (values, prompt, answer, given) => {
        const logits = Float32Array.from(values)
        const history = historyOf(prompt, answer)
        for (const processor of createLogitsProcessors(given)) processor.process(logits, history)
        for (const [id, value] of Float32Array.from(values).entries()) {
          let expected: number = value
          for (const [token, bias] of given.logit_bias) {
            if (token === id) expected = Math.fround(expected + bias)
          }
          if (prompt.includes(id) || answer.includes(id)) {
            expected = Math.fround(
              expected > 0
                ? expected / given.repetition_penalty
                : expected * given.repetition_penalty,
            )
          }
          const count = answer.filter((token) => token === id).length
          if (count > 0) {
            expected = Math.fround(
              expected - (given.presence_penalty + given.frequency_penalty * count),
            )
          }
          // The sign of a zero does not matter.
          expect(logits[id]! + 0).toBe(expected + 0)
        }
      }),
    )
  })

  test('settings without effect make no processors', ({ expect }) => {
    expect(createLogitsProcessors({})).toEqual([])
    expect(
      createLogitsProcessors({
        logit_bias: [],
        repetition_penalty: 1,
        presence_penalty: 0,
        frequency_penalty: 0,
      }),
    ).toEqual([])
  })

  test('the prompt counts for the repetition penalty only', ({ expect }) => {
    const logits = new Float32Array(4).fill(1)
    const processors = createLogitsProcessors({
      repetition_penalty: 2,
      presence_penalty: 0.25,
      frequency_penalty: 0.125,
    })
    for (const p of processors) p.process(logits, historyOf([0, 0, 1], [1, 2, 2]))
    expect([...logits]).toEqual([0.5, 0.5 - 0.25 - 0.125, 0.5 - 0.25 - 0.25, 1])
  })
})
