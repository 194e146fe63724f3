import { afterAll, beforeAll, describe, test } from 'vitest'
import { IDENTITY_SLOT } from '../../../gpu-runner/adapters/slot-table.ts'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import type { GenerateRequest } from '../../../src/protocol/runner.ts'
import {
  generate,
  openTestRunner,
  randomRotation,
  residentAdapter,
  tokensOf,
} from '../../fixtures/runner.ts'

/** In CI; `ARCANA_TEST_CASES=50` runs more, by hand. */
const NUM_CASES = Number(process.env['ARCANA_TEST_CASES'] ?? 25)
/** 400 requests: a minute on two quiet cores. */
const INVARIANCE_TIMEOUT_MS = 900_000
const NUM_ADAPTERS = 16
const WORDS =
  'the a river runs under old stone bridges while seven engineers count copper coins and ask why markets fell after rain'.split(
    ' ',
  )

let runner: Runner
const adapters: { digest: string; scope: 'generated' | 'all' }[] = []

beforeAll(async () => {
  runner = await openTestRunner()
  for (let seed = 0; seed < NUM_ADAPTERS; seed++) {
    const scope = seed % 4 === 3 ? 'all' : 'generated'
    const digest = await residentAdapter(runner, randomRotation(runner, seed, 0.4), scope)
    adapters.push({ digest, scope })
  }
})
afterAll(() => runner.release())

/** A request drawn at random: prompt, adapter and strength, greedy or sampled, text or labels. */
function randomRequest(random: () => number, id: string): GenerateRequest {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
  // Some prompts cross a chunk boundary; most are short, since the machine is small.
  const numWords = 3 + Math.floor(random() * (random() < 0.1 ? 150 : 25))
  const content = Array.from({ length: numWords }, () => pick(WORDS)).join(' ')
  const { digest, scope } = pick(adapters)
  return {
    request_id: id,
    // Some find their prompt in the prefix cache, and some do not.
    ...(random() < 0.5 ? { tenant: 'crowd' } : {}),
    messages: [{ role: 'user', content }],
    arms: [
      {
        adapters: random() < 0.1 ? [] : [{ digest, weight: pick([0.5, 1, 1.5, -1]) }],
        scope,
        seed: Math.floor(random() * 1e6),
      },
    ],
    sampling: {
      max_tokens: 4 + Math.floor(random() * 12),
      temperature: pick([0, 0, 0.8]),
      top_p: pick([1, 0.9]),
      stop: [],
    },
    ...(random() < 0.2
      ? { choice: { labels: ['rain', 'rainfall', 'stone', 'copper coins'] } }
      : {}),
  }
}

describe('a row does not depend on the other rows of the batch', () => {
  test('a decode step gives bit-equal logits in every batch size', async ({ expect }) => {
    const { executor, config, context } = runner
    const slots = adapters.map(({ digest }, i) =>
      context.slots.acquire(`bits:${i}`, () => runner.adapters.compose([{ digest, weight: 1 }])),
    )
    const kv = new KvTensors(config, NUM_ADAPTERS, 200)
    const lengths = slots.map((_, row) => 1 + row * 11)
    for (const [row, length] of lengths.entries()) {
      const ids = Array.from({ length }, (_, i) => 500 + ((row * 37 + i * 11) % 3000))
      await executor.prefill(kv, row, ids, 0, IDENTITY_SLOT)
    }
    const step = (firstRow: number, numRows: number): Promise<Float32Array> => {
      const rows = Array.from({ length: numRows }, (_, i) => firstRow + i)
      return executor.decode(
        kv,
        firstRow,
        rows.map((row) => 700 + row),
        rows.map((row) => lengths[row]!),
        rows.map((row) => slots[row]!),
        (logits) => logits.slice(),
      )
    }
    const alone = await Promise.all(slots.map((_, row) => step(row, 1)))
    const differing: string[] = []
    for (const [firstRow, numRows] of [
      [0, 2],
      [1, 3],
      [4, 4],
      [2, 7],
      [8, 8],
      [0, 13],
      [0, 16],
    ]) {
      const together = await step(firstRow!, numRows!)
      for (let i = 0; i < numRows!; i++) {
        const row = together.subarray(i * config.vocab, (i + 1) * config.vocab)
        const same = row.every((value, token) => value === alone[firstRow! + i]![token])
        if (!same) differing.push(`row ${firstRow! + i} in a batch of ${numRows}`)
      }
    }
    expect(differing).toEqual([])
    await executor.forget(kv)
    for (const slot of slots) context.slots.discard(slot)
  })

  test(
    'the same request gives the same tokens alone and among 15 others',
    { timeout: INVARIANCE_TIMEOUT_MS },
    async ({ expect }) => {
      const random = createRng(20261122)
      let numDifferent = 0
      for (let index = 0; index < NUM_CASES; index++) {
        const request = randomRequest(random, `case-${index}`)
        const alone = tokensOf(await generate(runner, request))
        const others = Array.from({ length: 15 }, (_, i) => randomRequest(random, `other-${i}`))
        // The request stands anywhere among the others, so it shares steps with other prefills too.
        const place = Math.floor(random() * 16)
        const crowd = [...others.slice(0, place), request, ...others.slice(place)]
        const results = await Promise.all(crowd.map((wire) => generate(runner, wire)))
        const together = tokensOf(results[place]!)
        expect(alone.length).toBeGreaterThan(0)
        if (JSON.stringify(alone) !== JSON.stringify(together)) numDifferent += 1
      }
      console.log(`${numDifferent} of ${NUM_CASES} requests differed in company`)
      // Every kernel is bit-equal across batch sizes (the test above), so none may differ.
      expect(numDifferent).toBe(0)
      expect(runner.context.slots.numLeased).toBe(0)
      expect(runner.engine.load).toEqual({ running: 0, waiting: 0, parked: 0 })
    },
  )
})
