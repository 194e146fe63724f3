import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { LayerRotation, Rotation } from '../../../adapters/rotation/rotation.ts'
import { IDENTITY_SLOT } from '../../../gpu-runner/adapters/slot-table.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { argmax } from '../../../gpu-runner/sampling/sampler.ts'
import type { ScoreHeader } from '../../../src/protocol/runner-scoring.ts'
import { greedyRun } from '../../fixtures/logits.ts'
import { readReference } from '../../fixtures/model.ts'
import { needs } from '../../fixtures/needs.ts'
import { openTestRunner, readSharedRows } from '../../fixtures/runner.ts'

/** The tolerance that the reference states for a float32 build. */
const MAX_LOGIT_DIFFERENCE = 1e-2
/** Above this margin the served build must choose the same token. */
const CLEAR_MARGIN = 1
const MIN_LABEL_AGREEMENT = 0.97
const NUM_LABEL_PROMPTS = 200
/** 18,000 prompt tokens through each build: a minute on two quiet cores. */
const AGREEMENT_TIMEOUT_MS = 900_000

type Values = { readonly top: [number, number][]; readonly greedy: number[] }
type ReferenceCase = { name: string; text: string; ids: number[] } & Record<
  'base' | 'generated' | 'all',
  Values
>
const reference = readReference() as { cases: ReferenceCase[] } | null
const newsRows = readSharedRows('ag_news', 'test')?.slice(0, NUM_LABEL_PROMPTS) ?? null

/** The rotation of the reference: 0.3·sin(7·layer + 3·head + pair). */
function referenceRotation({ config: { numLayers, numHeads, headDim } }: Runner): Rotation {
  const layers = new Map<number, LayerRotation>()
  const pairs = headDim / 2
  for (let layer = 0; layer < numLayers; layer++) {
    const angles = Float32Array.from({ length: numHeads * pairs }, (_, i) =>
      Math.fround(0.3 * Math.sin(7 * layer + 3 * Math.floor(i / pairs) + (i % pairs))),
    )
    layers.set(layer, { angles })
  }
  return { geometry: { numLayers, numHeads, headDim }, layers }
}

describe('numbers of the reference', needs('../shared/reference', reference !== null), () => {
  for (const format of ['float32', 'block'] as const) {
    describe(format === 'float32' ? 'float32 build' : 'served build', () => {
      let runner: Runner
      let slot: number
      beforeAll(async () => {
        runner = await openTestRunner({ decodeFormat: format })
        slot = runner.context.slots.acquire('reference', () => referenceRotation(runner))
      })
      afterAll(() => runner.release())

      for (const { name, ids, text, ...values } of reference?.cases ?? []) {
        for (const scope of ['base', 'generated', 'all'] as const) {
          test(`case ${name} under ${scope} agrees`, async ({ expect }) => {
            expect(runner.context.tokenizer.encode(text)).toEqual(ids)
            const { top, greedy } = values[scope]
            const { logits, tokens } = await greedyRun(
              runner,
              ids,
              scope === 'base' ? IDENTITY_SLOT : slot,
              scope === 'all' ? slot : IDENTITY_SLOT,
              format === 'float32' ? greedy.length : 1,
            )
            if (format === 'float32') {
              for (const [id, value] of top) {
                expect(Math.abs(logits[id]! - value)).toBeLessThan(MAX_LOGIT_DIFFERENCE)
              }
              expect(tokens).toEqual(greedy)
            } else if (top[0]![1] - top[1]![1] > CLEAR_MARGIN) {
              expect(tokens[0]).toBe(top[0]![0])
            } else {
              // Without a clear best, the served build must still rank the reference's best highly.
              const better = logits.filter((value) => value > logits[top[0]![0]]!).length
              expect(better).toBeLessThan(top.length)
            }
          })
        }
      }
    })
  }
})

describe('best label on ag_news test prompts', needs('../shared/data', newsRows !== null), () => {
  test(
    'served and float32 builds agree on at least 97%',
    { timeout: AGREEMENT_TIMEOUT_MS },
    async ({ expect }) => {
      const labels = ['World', 'Sports', 'Business', 'Science']
      const system =
        'You are a news classifier. Answer with the category only: World, Sports, Business or Science.'
      const dataset = {
        labels,
        examples: newsRows!.map(({ input, label }) => ({
          messages: [
            { role: 'system', content: system },
            { role: 'user', content: input },
          ],
          label: labels.indexOf(label),
        })),
      }
      const bytes = new TextEncoder().encode(JSON.stringify(dataset))
      const digest = createHash('sha256').update(bytes).digest('hex')
      const bestOf = async (format: 'float32' | 'block'): Promise<number[]> => {
        const runner = await openTestRunner({ decodeFormat: format })
        const header: ScoreHeader = {
          dataset: digest,
          scope: 'generated',
          num_candidates: 1,
          layers: [],
          has_log_scale: false,
        }
        const tokenised = runner.datasets.put(digest, bytes)
        const scores = await runner.scorer.score(
          tokenised,
          header,
          new Float32Array(0),
          () => false,
        )
        await runner.release()
        return scores[0]!.map((logProbs) => argmax(logProbs))
      }
      const exact = await bestOf('float32')
      const served = await bestOf('block')
      const agreement = exact.filter((label, i) => label === served[i]).length / exact.length
      console.log(`same best label on ${agreement * 100}% of ${exact.length} prompts`)
      expect(agreement).toBeGreaterThanOrEqual(MIN_LABEL_AGREEMENT)
    },
  )
})
