import { afterAll, beforeAll, describe, it } from 'vitest'
import { openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import { SourceWeights } from '../../../gpu-runner/onnx/serving/weights.ts'
import { modelPath } from '../../fixtures/model.ts'
import { HiddenStates } from './hidden-states.ts'

/** Float32 rounding of 576 products, of logits of size 20. */
const ROUNDING = 1e-3
const EVERY = 997

let hidden: HiddenStates
beforeAll(async () => {
  hidden = await HiddenStates.open()
})
afterAll(() => {
  ;(hidden as HiddenStates | undefined)?.release()
})

describe('HiddenStates', () => {
  it('reads the state that times the embeddings gives the logits', async ({ expect }) => {
    const ids = hidden.encode('Answer with yes or no only.', [
      { role: 'user', content: 'Is the harbour wet?' },
    ])
    const { state, logits } = await hidden.read(ids)
    expect(await hidden.stateOf(ids)).toEqual(state)
    expect(await hidden.stateOf([...ids])).toBe(await hidden.stateOf(ids))
    expect(await hidden.stateOf(ids.slice(1))).not.toEqual(state)
    const file = await openGguf(await modelPath())
    const embeddings = await new SourceWeights(file).float32('token_embd.weight')
    await file.close()
    for (let token = 0; token < logits.length; token += EVERY) {
      const row = embeddings.subarray(token * state.length, (token + 1) * state.length)
      const product = row.reduce((sum, weight, k) => sum + weight * state[k]!, 0)
      expect(Math.abs(product - logits[token]!)).toBeLessThan(ROUNDING)
    }
  })
})
