/** Given text on the real model: continued, echoed, scored, rotated from a position on. */
import { afterAll, beforeAll, describe, test } from 'vitest'
import { IDENTITY_SLOT } from '../../../gpu-runner/adapters/slot-table.ts'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { RunnerFault } from '../../../gpu-runner/runner-fault.ts'
import type { Arm, GenerateEvent, GenerateRequest } from '../../../src/protocol/runner.ts'
import {
  generate,
  openTestRunner,
  randomRotation,
  residentAdapter,
  textOf,
  tokensOf,
} from '../../fixtures/runner.ts'

const BASE: Arm = { adapters: [], scope: 'generated' }
const TEXT = 'The river runs under seven old stone bridges — “naïve” engineers count coins. '
/** Past a chunk's boundary. */
const LONG = TEXT.repeat(10)
/** One token at a time sums in another order than a chunk does. */
const MAX_DIFFERENCE = 1e-3

let runner: Runner
beforeAll(async () => {
  runner = await openTestRunner()
})
afterAll(() => runner.release())

const complete = (
  prompt: string | number[],
  sampling: Partial<GenerateRequest['sampling']> = {},
  extra: Partial<GenerateRequest> = {},
): Promise<GenerateEvent[]> =>
  generate(runner, {
    request_id: 'test',
    prompt,
    arms: [BASE],
    sampling: { max_tokens: 4, temperature: 0, top_p: 1, stop: [], ...sampling },
    ...extra,
  })

const promptOf = (events: readonly GenerateEvent[], arm = 0) => {
  const pieces = events.flatMap((event) =>
    event.event === 'prompt' && event.arm === arm ? [event] : [],
  )
  return {
    text: pieces.map(({ text }) => text).join(''),
    tokens: pieces.flatMap(({ tokens }) => tokens),
  }
}
const scored = async (prompt: string | number[], arm: Arm = BASE, tenant?: string) => {
  const extra = { echo: true, arms: [arm], ...(tenant === undefined ? {} : { tenant }) }
  return promptOf(await complete(prompt, { max_tokens: 0, logprobs: 2 }, extra)).tokens
}

/** log P(ids[i] | ids[..i]) by single-token steps of the prompt's graph, by definition. */
async function logprobsByHand(ids: readonly number[]): Promise<number[]> {
  const { executor, config } = runner
  const kv = new KvTensors(config, 1, ids.length)
  const logprobs: number[] = []
  for (let i = 0; i + 1 < ids.length; i++) {
    await executor.prefill(kv, 0, [ids[i]!], i, IDENTITY_SLOT, 0, (logits) => {
      const values = Array.from(logits)
      const top = values.reduce((a, b) => Math.max(a, b))
      const total = values.reduce((sum, value) => sum + Math.exp(value - top), 0)
      logprobs.push(values[ids[i + 1]!]! - top - Math.log(total))
    })
  }
  await executor.forget(kv)
  return logprobs
}

describe('given text', () => {
  test('is continued unchanged, as text or as ids', async ({ expect }) => {
    const { tokenizer } = runner.context
    const ids = tokenizer.encode(TEXT)
    const [byText, byIds] = [await complete(TEXT), await complete(ids)]
    expect(tokensOf(byText)).toHaveLength(4)
    expect(tokensOf(byIds)).toEqual(tokensOf(byText))
    expect(byText.at(-2)).toMatchObject({ event: 'end', usage: { prompt_tokens: ids.length } })
    // A chat's prompt, written out, gives the chat's answer.
    const messages = [{ role: 'user' as const, content: 'Name three colours.' }]
    const chat = await generate(runner, {
      request_id: 'test',
      messages,
      arms: [BASE],
      sampling: { max_tokens: 8, temperature: 0, top_p: 1, stop: [] },
    })
    expect(textOf(await complete(tokenizer.renderChat(messages), { max_tokens: 8 }))).toBe(
      textOf(chat),
    )
  })

  test('comes back as text, control tokens included', async ({ expect }) => {
    const prompt = `<|im_start|>user\n${TEXT}<|im_end|>\n`
    const all = await complete(prompt, {}, { echo: true })
    expect(promptOf(all)).toEqual({ text: prompt, tokens: [] })
    expect(textOf(all)).toBe(textOf(await complete(prompt)))
  })
})

describe('scored text', () => {
  test('has the log probability of each token, over chunk boundaries', async ({ expect }) => {
    const ids = runner.context.tokenizer.encode(LONG)
    expect(ids.length).toBeGreaterThan(128)
    const all = await complete(LONG, { max_tokens: 1, logprobs: 3 }, { echo: true })
    const { text, tokens } = promptOf(all)
    expect(text).toBe(LONG)
    expect(tokens.map(({ id }) => id)).toEqual(ids)
    expect(tokens[0]).toMatchObject({ logprob: null, top: [] })
    const expected = await logprobsByHand(ids)
    for (const [i, { logprob, top }] of tokens.slice(1).entries()) {
      expect(Math.abs(logprob! - expected[i]!)).toBeLessThan(MAX_DIFFERENCE)
      expect(top).toHaveLength(3)
      expect(top[0]!.logprob).toBeGreaterThanOrEqual(logprob!)
    }
    expect(tokensOf(all)).toEqual(tokensOf(await complete(LONG, { max_tokens: 1 })))
  })

  test('without generation takes no step and no row', async ({ expect }) => {
    const before = runner.engine.counters.decodeSteps
    const all = await complete(TEXT, { max_tokens: 0, logprobs: 0 }, { echo: true })
    expect(all.at(-2)).toMatchObject({
      event: 'end',
      finish_reason: 'length',
      usage: { completion_tokens: 0 },
    })
    expect(runner.engine.counters.decodeSteps).toBe(before)
    expect(runner.engine.load).toEqual({ running: 0, waiting: 0, parked: 0 })
    // A prompt of one token has nothing that could be predicted.
    expect(await scored([500])).toMatchObject([{ id: 500, logprob: null }])
  })

  test('has the same numbers beside other requests and cached prompts', async ({ expect }) => {
    const alone = await scored(LONG)
    const together = await Promise.all([
      complete(TEXT, { max_tokens: 30 }),
      scored(LONG, BASE, 'tenant'),
      complete(LONG, { max_tokens: 5 }, { tenant: 'tenant' }),
      scored(LONG, BASE, 'tenant'),
    ])
    expect(together[1]).toEqual(alone)
    expect(together[3]).toEqual(alone)
  })
})

describe('an adapter from a position on', () => {
  test('leaves the tokens before it as the base model has them, bit by bit', async ({ expect }) => {
    const digest = await residentAdapter(runner, randomRotation(runner, 11, 0.4))
    const arm = (from: number): Arm => ({
      adapters: [{ digest, weight: 1 }],
      scope: 'generated',
      rotate_from: from,
    })
    const from = 140
    const [base, rotated] = [await scored(LONG), await scored(LONG, arm(from))]
    // Position `from` is the first rotated one, and it predicts the token after it.
    expect(rotated.slice(0, from + 1)).toEqual(base.slice(0, from + 1))
    for (const [i, token] of rotated.entries()) {
      if (i > from) expect(token.logprob).not.toBe(base[i]!.logprob)
    }
    const last = base.length - 1
    expect(await scored(LONG, arm(last))).toEqual(base)
    const generated: Arm = { adapters: [{ digest, weight: 1 }], scope: 'generated' }
    const options = { logprobs: 4 }
    const said = async (arms: Arm[]) =>
      (await complete(LONG, options, { arms })).filter(({ event }) => event === 'token')
    expect(await said([arm(last)])).toEqual(await said([generated]))
  })

  test('from 0 is scope all', async ({ expect }) => {
    const rotation = randomRotation(runner, 12, 0.4)
    const generated = await residentAdapter(runner, rotation)
    const all = await residentAdapter(runner, rotation, 'all')
    const fromZero = await scored(TEXT, {
      adapters: [{ digest: generated, weight: 1 }],
      scope: 'generated',
      rotate_from: 0,
    })
    expect(fromZero).toEqual(
      await scored(TEXT, { adapters: [{ digest: all, weight: 1 }], scope: 'all' }),
    )
    expect(fromZero).not.toEqual(await scored(TEXT))
  })

  test('is reported with that position', async ({ expect }) => {
    const digest = await residentAdapter(runner, randomRotation(runner, 13, 0.4))
    const arms: Arm[] = [
      { adapters: [{ digest, weight: 1 }], scope: 'generated', rotate_from: 3 },
      BASE,
      { adapters: [{ digest, weight: 1 }], scope: 'generated', rotate_from: 5 },
      { adapters: [{ digest, weight: 1 }], scope: 'generated', rotate_from: 3 },
    ]
    const all = await complete(TEXT, {}, { arms })
    const stated = all
      .filter((event) => event.event === 'end')
      .sort((a, b) => a.arm - b.arm)
      .map(({ applied }) => applied.rotate_from)
    expect(stated).toEqual([3, null, 5, 3])
    // Two arms are computed alike.
    expect(all.at(-1)).toEqual({ event: 'done', num_prefills: 3 })
    expect(tokensOf(all, 0)).toEqual(tokensOf(all, 3))
  })
})

describe('what is refused', () => {
  test('invalid prompts and positions, by name', async ({ expect }) => {
    const all = await residentAdapter(runner, randomRotation(runner, 14, 0.4), 'all')
    const rotated = (from: number): Arm[] => [{ ...BASE, rotate_from: from }]
    const cases: [string | number[], Partial<GenerateRequest>, string, string][] = [
      ['', {}, 'invalid_request', 'prompt'],
      [[], {}, 'invalid_request', 'prompt'],
      [[49_152], {}, 'invalid_request', 'prompt'],
      ['word '.repeat(2000), {}, 'context_length_exceeded', 'prompt'],
      ['x'.repeat(2_000_000), {}, 'context_length_exceeded', 'prompt'],
      [Array.from({ length: 1024 }, () => 500), {}, 'context_length_exceeded', 'prompt'],
      [[500, 501], { arms: rotated(2) }, 'invalid_request', 'rotate_from'],
      [
        [500, 501],
        { arms: [{ adapters: [{ digest: all, weight: 1 }], scope: 'all', rotate_from: 1 }] },
        'invalid_request',
        'rotate_from',
      ],
    ]
    for (const [prompt, extra, code, param] of cases) {
      let fault: unknown
      await complete(prompt, {}, extra).catch((error: unknown) => {
        fault = error
      })
      expect(fault).toBeInstanceOf(RunnerFault)
      expect(fault).toMatchObject({ code, details: { param } })
    }
    expect(runner.context.slots.numLeased).toBe(0)
  })
})
