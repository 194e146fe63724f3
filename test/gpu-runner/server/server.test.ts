import { request as httpRequest } from 'node:http'
import { describe, test, vi } from 'vitest'
import { digestOf, encodeAdapter } from '../../../adapters/format/adapter-file.ts'
import { IDENTITY_SLOT } from '../../../gpu-runner/adapters/slot-table.ts'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import {
  runnerErrorBodySchema,
  runnerStatusSchema,
  type Arm,
} from '../../../src/protocol/runner.ts'
import { randomRotation, textOf, tokensOf } from '../../fixtures/runner.ts'
import {
  ask,
  BASE,
  baseUrl,
  call,
  errorOf,
  events,
  generate,
  post,
  pushAdapter,
  runner,
  SECRET,
  useServedRunner,
} from '../../fixtures/served-runner.ts'

useServedRunner()

/** An answer that can only be `"Paris"` and then the end of the turn. */
const ONLY_PARIS = { type: 'json_schema', schema: { const: 'Paris' } } as const

describe('generate', () => {
  test('an answer streams as accepted, tokens, end and done', async ({ expect }) => {
    // A held answer ends by the end of the turn on every machine; free text may be cut.
    const all = await generate(
      ask('What is the capital of France?', { response_format: ONLY_PARIS }),
    )
    expect(all.map(({ event }) => event)).toEqual([
      'accepted',
      ...tokensOf(all).map(() => 'token'),
      'end',
      'done',
    ])
    expect(textOf(all).length).toBeGreaterThan(0)
    expect(all[0]).toMatchObject({ applied: { adapters: [], layers: [], bias_digest: null } })
    expect(all.at(-2)).toMatchObject({
      finish_reason: 'stop',
      usage: { completion_tokens: tokensOf(all).length + 1 },
    })
  })

  test('arms share one prefill, and each says which adapter acted', async ({ expect }) => {
    const one = await pushAdapter(1)
    const two = await pushAdapter(2)
    const arms: Arm[] = [
      BASE,
      { adapters: [{ digest: one.digest, weight: 1 }], scope: 'generated' },
      { adapters: [{ digest: one.digest, weight: 0 }], scope: 'generated' },
      {
        adapters: [
          { digest: one.digest, weight: 0.5 },
          { digest: two.digest, weight: -0.25 },
        ],
        scope: 'generated',
      },
    ]
    const all = await generate(ask('Name three colours.', { arms }))
    expect(all.at(-1)).toEqual({ event: 'done', num_prefills: 1 })
    for (const [arm, { adapters }] of arms.entries()) {
      const stated = all.flatMap((event) =>
        (event.event === 'accepted' || event.event === 'end') && event.arm === arm
          ? [event.applied.adapters]
          : [],
      )
      expect(stated).toEqual([adapters, adapters])
    }
    expect(tokensOf(all, 2)).toEqual(tokensOf(all, 0))
    expect(tokensOf(all, 1)).not.toEqual(tokensOf(all, 0))
  })

  test('an adapter of scope all rotates the prompt too and costs its own prefill', async ({
    expect,
  }) => {
    const { digest } = await pushAdapter(3, 'all')
    const arms: Arm[] = [BASE, { adapters: [{ digest, weight: 1 }], scope: 'all' }]
    const all = await generate(ask('Name three colours.', { arms }))
    expect(all.at(-1)).toEqual({ event: 'done', num_prefills: 2 })
    const wrong: Arm[] = [{ adapters: [{ digest, weight: 1 }], scope: 'generated' }]
    const refused = await post('/v1/generate', ask('hi', { arms: wrong }))
    expect(await errorOf(refused)).toMatchObject({ status: 400, code: 'invalid_request' })
  })

  test('a choice answers with one of its labels and says how likely each is', async ({
    expect,
  }) => {
    const labels = ['Paris', 'Paris is it', 'London', 'a city in Germany']
    const choice = { labels }
    const all = await generate(ask('What is the capital of France?', { choice }))
    const stated = all.find((event) => event.event === 'labels')!
    const total = stated.labels.reduce((sum, { probability }) => sum + probability, 0)
    expect(total).toBeCloseTo(1, 10)
    expect(stated.labels.reduce((sum, { log_probability: p }) => sum + Math.exp(p), 0)).toBeCloseTo(
      1,
      6,
    )
    const best = stated.labels.reduce((a, b) => (b.probability > a.probability ? b : a))
    expect(textOf(all)).toBe(best.label)

    const bias = labels.map((label) => (label === 'London' ? 50 : 0))
    const biased = await generate(
      ask('What is the capital of France?', { choice, arms: [{ ...BASE, bias }] }),
    )
    expect(textOf(biased)).toBe('London')
    expect(
      biased.find((event) => event.event === 'labels')!.labels.map((l) => l.log_probability),
    ).toEqual(stated.labels.map((l) => l.log_probability))
  })

  test('a stop string ends the answer before itself', async ({ expect }) => {
    const whole = textOf(await generate(ask('What is the capital of France?')))
    // Across a token's border, so that text has to be held back.
    const stop = whole.slice(5, 12)
    const sampling = { max_tokens: 32, temperature: 0, top_p: 1, stop: [stop] }
    const all = await generate(ask('What is the capital of France?', { sampling }))
    expect(textOf(all)).toBe(whole.slice(0, whole.indexOf(stop)))
    expect(all.at(-2)).toMatchObject({ finish_reason: 'stop' })
  })

  test('a seed fixes a sampled answer', async ({ expect }) => {
    const sampling = { max_tokens: 24, temperature: 1.2, top_p: 0.95, stop: [] }
    const sampled = (seed: number) =>
      generate(ask('Tell me a story.', { sampling, arms: [{ ...BASE, seed }] })).then(textOf)
    expect(await sampled(7)).toBe(await sampled(7))
    expect(await sampled(7)).not.toBe(await sampled(8))
  })

  test('log probabilities are the model’s own, whatever changes the choice', async ({ expect }) => {
    const content = 'Name three colours.'
    const sampling = { max_tokens: 6, temperature: 0, top_p: 1, stop: [], logprobs: 4 }
    const plain = await generate(ask(content, { sampling }))
    const banned = tokensOf(plain)[0]!
    const bent = await generate(
      ask(content, {
        sampling: {
          ...sampling,
          logit_bias: [[banned, -100]],
          repetition_penalty: 1.5,
          presence_penalty: 1,
          frequency_penalty: 1,
        },
      }),
    )
    expect(tokensOf(bent)).not.toContain(banned)
    for (const all of [plain, bent]) {
      const ids = tokensOf(all)
      const stated = all.flatMap((event) => (event.event === 'token' ? (event.logprobs ?? []) : []))
      expect(stated.map(({ id }) => id)).toEqual(ids)
      const logits = await logitsAlong(content, ids)
      for (const [i, { id, logprob, top, bytes }] of stated.entries()) {
        const own = logSoftmax(logits[i]!)
        expect(logprob).toBeCloseTo(own[id]!, 9)
        const order = own.map((_, token) => token).sort((a, b) => own[b]! - own[a]! || a - b)
        expect(top.map((token) => token.id)).toEqual(order.slice(0, 4))
        for (const token of top) expect(token.logprob).toBeCloseTo(own[token.id]!, 9)
        expect(new TextDecoder().decode(Uint8Array.from(bytes))).toBe(
          runner.context.tokenizer.decode([id]),
        )
      }
    }
  })

  test('the token that ends an answer is named with its log probability', async ({ expect }) => {
    const sampling = { max_tokens: 64, temperature: 0, top_p: 1, stop: [], logprobs: 0 }
    const all = await generate(
      ask('What is the capital of France?', { sampling, response_format: ONLY_PARIS }),
    )
    const end = all.find((event) => event.event === 'end')!
    expect(end.finish_reason).toBe('stop')
    expect(end.stop_token).toMatchObject({ id: runner.context.tokenizer.endOfTurnId, top: [] })
    expect(end.stop_token!.token).toBe('<|im_end|>')
    expect(end.stop_token!.logprob).toBeLessThan(0)
  })

  test('top_k of 1 and min_p of 1 are greedy at any temperature', async ({ expect }) => {
    const content = 'Tell me a story.'
    const sampling = { max_tokens: 12, temperature: 0, top_p: 1, stop: [] }
    const greedy = tokensOf(await generate(ask(content, { sampling })))
    for (const extra of [{ top_k: 1 }, { min_p: 1 }]) {
      const bound = { ...sampling, temperature: 2, ...extra }
      expect(tokensOf(await generate(ask(content, { sampling: bound })))).toEqual(greedy)
    }
    const free = { ...sampling, temperature: 2 }
    expect(tokensOf(await generate(ask(content, { sampling: free })))).not.toEqual(greedy)
  })

  test('a caller that disconnects frees its row at once', async ({ expect }) => {
    const before = runner.engine.counters.aborted
    const sampling = { max_tokens: 400, temperature: 1, top_p: 1, stop: [] }
    const wire = ask('Write a very long story about the sea.', { sampling })
    await new Promise<void>((resolve) => {
      const request = httpRequest(
        `${baseUrl}/v1/generate`,
        { method: 'POST', headers: { authorization: `Bearer ${SECRET}` } },
        (response) => {
          response.once('data', () => {
            response.destroy()
            resolve()
          })
        },
      )
      request.end(JSON.stringify(wire))
    })
    await vi.waitFor(() => {
      expect(runner.engine.counters.aborted).toBe(before + 1)
      expect(runner.engine.load).toEqual({ running: 0, waiting: 0, parked: 0 })
    })
    expect(tokensOf(await generate(ask('Hello.'))).length).toBeGreaterThan(0)
  })
})

/** The logits [tokens][vocab] that each token of an answer was drawn from, one row, by hand. */
async function logitsAlong(content: string, ids: readonly number[]): Promise<Float32Array[]> {
  const { executor, config, context } = runner
  const prompt = context.tokenizer.encodeChat([{ role: 'user', content }])
  const kv = new KvTensors(config, 1, prompt.length + ids.length)
  await executor.prefill(kv, 0, prompt.slice(0, -1), 0, IDENTITY_SLOT)
  const logits: Float32Array[] = []
  for (const [i, id] of [prompt.at(-1)!, ...ids.slice(0, -1)].entries()) {
    const position = prompt.length - 1 + i
    logits.push(
      await executor.decode(kv, 0, [id], [position], [IDENTITY_SLOT], (row) => row.slice()),
    )
  }
  await executor.forget(kv)
  return logits
}

/** Log softmax by its definition, in float64. */
function logSoftmax(logits: Float32Array): number[] {
  const values = Array.from(logits)
  const top = values.reduce((a, b) => Math.max(a, b))
  const total = values.reduce((sum, value) => sum + Math.exp(value - top), 0)
  return values.map((value) => value - top - Math.log(total))
}

describe('what is refused', () => {
  test('sampling parameters without meaning, or with unknown tokens', async ({ expect }) => {
    const sampling = { max_tokens: 2, temperature: 0, top_p: 1, stop: [] }
    const outside = ask('hi', { sampling: { ...sampling, logit_bias: [[49_152, 1]] } })
    expect(await errorOf(await post('/v1/generate', outside))).toMatchObject({
      status: 400,
      param: 'logit_bias',
    })
    const choice = { labels: ['a', 'b'] }
    const ofLabels = ask('hi', { sampling: { ...sampling, logprobs: 1 }, choice })
    expect(await errorOf(await post('/v1/generate', ofLabels))).toMatchObject({ status: 400 })
  })

  test('a wrong secret', async ({ expect }) => {
    const response = await call('/v1/status', {}, 'wrong')
    expect(await errorOf(response)).toMatchObject({ status: 401, code: 'unauthorized' })
  })

  test('malformed JSON and fields of the wrong type, by name', async ({ expect }) => {
    expect(await errorOf(await post('/v1/generate', '{"messages": ['))).toMatchObject({
      status: 400,
    })
    const wrong = {
      ...ask('hi'),
      sampling: { max_tokens: 'many', temperature: 0, top_p: 1, stop: [] },
    }
    expect(await errorOf(await post('/v1/generate', wrong))).toEqual({
      status: 400,
      code: 'invalid_request',
      param: 'sampling.max_tokens',
    })
  })

  test('a prompt past the context, however long', async ({ expect }) => {
    for (const text of ['word '.repeat(600), 'x'.repeat(2_000_000), 'word '.repeat(400_000)]) {
      const response = await post('/v1/generate', ask(text))
      expect(await errorOf(response)).toMatchObject({
        status: 400,
        code: 'context_length_exceeded',
      })
    }
    expect((await post('/v1/generate', ask('y'.repeat(9 << 20)))).status).toBe(400)
  })

  test('an adapter that is truncated, altered, hostile or of another model', async ({ expect }) => {
    const { bytes } = await pushAdapter(4)
    const put = async (body: Uint8Array<ArrayBuffer>) =>
      errorOf(await call(`/v1/adapters/${await digestOf(body)}`, { method: 'PUT', body }))
    expect(await put(bytes.slice(0, -3))).toMatchObject({ status: 400, code: 'adapter_invalid' })
    const huge = bytes.slice()
    new DataView(huge.buffer).setBigUint64(0, 2n ** 63n, true)
    expect(await put(huge)).toMatchObject({ status: 400, code: 'adapter_invalid' })
    const foreign = encodeAdapter({
      modelDigest: 'f'.repeat(64),
      scope: 'generated',
      rotation: randomRotation(runner, 5, 0.1),
      dtype: 'F16',
    })
    expect(await put(foreign)).toMatchObject({ status: 400, code: 'adapter_wrong_model' })
    const misnamed = await call(`/v1/adapters/${'0'.repeat(64)}`, { method: 'PUT', body: bytes })
    expect(await errorOf(misnamed)).toMatchObject({ status: 400, code: 'adapter_invalid' })
    expect((await call('/v1/adapters/../../etc', { method: 'PUT', body: bytes })).status).toBe(404)
  })

  test('adapters that are not resident, naming those of all arms', async ({ expect }) => {
    const missing = ['e'.repeat(64), 'f'.repeat(64)]
    const [first, second] = missing.map((digest): Arm => {
      return { adapters: [{ digest, weight: 1 }], scope: 'generated' }
    })
    const arms = [first!, BASE, second!, first!]
    const response = await post('/v1/generate', ask('hi', { arms }))
    expect(response.status).toBe(409)
    const { error } = runnerErrorBodySchema.parse(await response.json())
    expect(error).toMatchObject({ code: 'adapter_not_resident', missing })
    expect(runner.context.slots.numLeased).toBe(0)
  })

  test('labels with the same tokens', async ({ expect }) => {
    const choice = { labels: ['same', 'same'] }
    const response = await post('/v1/generate', ask('hi', { choice }))
    expect(await errorOf(response)).toMatchObject({ status: 400, param: 'labels' })
  })

  test('more arms than there are rows', async ({ expect }) => {
    const arms = Array.from({ length: 17 }, () => BASE)
    const response = await post('/v1/generate', ask('hi', { arms }))
    expect(await errorOf(response)).toMatchObject({ status: 400, param: 'arms' })
  })

  test('a request past a full queue, while those admitted are answered', async ({ expect }) => {
    const long = ask('Count.', {
      arms: Array.from({ length: 16 }, () => BASE),
      sampling: { max_tokens: 40, temperature: 0, top_p: 1, stop: [] },
    })
    const responses = await Promise.all(Array.from({ length: 6 }, () => post('/v1/generate', long)))
    const refused = responses.filter(({ status }) => status === 503)
    expect(refused.length).toBeGreaterThan(0)
    for (const response of responses) {
      if (response.status === 503) {
        const { error } = runnerErrorBodySchema.parse(await response.json())
        expect(error.code).toBe('over_capacity')
        // Three requests of 40 tokens a row are some seconds of work.
        expect(error.retry_after_seconds).toBeGreaterThanOrEqual(1)
        expect(response.headers.get('retry-after')).toBe(String(error.retry_after_seconds))
      } else {
        expect((await events(response)).at(-1)).toMatchObject({ event: 'done' })
      }
    }
  })
})

describe('adapters', () => {
  test('an adapter deleted while in use disappears once its last request ends', async ({
    expect,
  }) => {
    const { digest } = await pushAdapter(6)
    const arms: Arm[] = [{ adapters: [{ digest, weight: 1 }], scope: 'generated' }]
    const running = post('/v1/generate', ask('Tell me about the sea.', { arms }))
    const response = await running
    expect((await call(`/v1/adapters/${digest}`, { method: 'DELETE' })).status).toBe(204)
    expect((await events(response)).at(-1)).toMatchObject({ event: 'done' })
    const status = runnerStatusSchema.parse(await (await call('/v1/status')).json())
    expect(status.resident_adapters).not.toContain(digest)
    expect((await call(`/v1/adapters/${digest}`, { method: 'DELETE' })).status).toBe(404)
  })
})

test('the prefix cache shows in the answer, the status and the metrics', async ({ expect }) => {
  const wire = ask('What is the capital of Italy?', { tenant: 'seen from outside' })
  const cached = async () =>
    (await generate(wire)).find((event) => event.event === 'end')!.usage.cached_tokens
  expect(await cached()).toBe(0)
  const { prompt_tokens: promptTokens } = (await generate(wire)).find(
    (event) => event.event === 'accepted',
  )!
  expect(await cached()).toBe(promptTokens - 1)
  const status = runnerStatusSchema.parse(await (await call('/v1/status')).json())
  expect(status.prefix_cache.bytes).toBeGreaterThan(0)
  expect(status.prefix_cache.bytes).toBeLessThanOrEqual(status.limits.max_prefix_cache_bytes)
  const text = await (await call('/metrics')).text()
  expect(text).toMatch(/^arcana_prefix_cache_hits_total [1-9]/m)
  expect(text).toMatch(/^arcana_cached_tokens_total [1-9]/m)
})

test('metrics are Prometheus text', async ({ expect }) => {
  const text = await (await call('/metrics')).text()
  expect(text).toMatch(/^arcana_decode_steps_total [1-9]/m)
  expect(text).toMatch(/^arcana_time_to_first_token_seconds_count\{tier="default"\} [1-9]/m)
  expect(text).toMatch(/^arcana_inter_token_seconds_count\{tier="default"\} [1-9]/m)
  expect(text).toMatch(/^arcana_batch_rows_count [1-9]/m)
  expect(text).toMatch(/^arcana_engine_seconds_total\{phase="decode"\} [\d.]*[1-9]/m)
  expect(text).toMatch(/^arcana_calls_refused_total\{reason="over_capacity"\} [1-9]/m)
  expect(text).toMatch(/^arcana_job_share_limit_ratio 0.3$/m)
})

test('the metrics say what llm-d and the inference extension schedule by', async ({ expect }) => {
  const used = await pushAdapter(21)
  const queued = await pushAdapter(22)
  const caller = new AbortController()
  const start = (digest: string, numArms: number) => {
    const arm: Arm = { adapters: [{ digest, weight: 1 }], scope: 'generated' }
    const body = ask('Tell me a long story about the sea.', {
      arms: Array.from({ length: numArms }, () => arm),
      sampling: { max_tokens: 400, temperature: 0, top_p: 1, stop: [] },
    })
    const init = { method: 'POST', body: JSON.stringify(body), signal: caller.signal }
    return call('/v1/generate', init).catch(() => null)
  }
  const loadOf = (metrics: string) =>
    ['num_requests_running', 'num_requests_waiting', 'kv_cache_usage_perc'].map((name) => {
      const line = new RegExp(
        `^vllm:${name}\\{model_name="smollm2-135m-instruct",engine="0"\\} (.*)$`,
        'm',
      )
      return Number(line.exec(metrics)?.[1])
    })
  const read = async () => (await call('/metrics')).text()
  expect(loadOf(await read())).toEqual([0, 0, 0])

  const answers = [start(used.digest, 8)]
  await vi.waitFor(() => {
    expect(runner.engine.scheduler.running).toHaveLength(8)
  }, 60_000)
  expect(loadOf(await read())).toEqual([1, 0, 0.5])

  // It needs more rows than are free, so it waits.
  answers.push(start(queued.digest, 9))
  await vi.waitFor(() => {
    expect(runner.engine.scheduler.numWaiting).toBe(1)
  }, 60_000)
  const busy = await read()
  expect(loadOf(busy)).toEqual([1, 1, 0.5])
  expect(busy).toMatch(/^# TYPE vllm:num_requests_waiting gauge$/m)
  expect(busy).toMatch(/^# TYPE vllm:lora_requests_info gauge$/m)
  const info =
    /^vllm:lora_requests_info\{max_lora="(.*)",running_lora_adapters="(.*)",waiting_lora_adapters="(.*)"\} (.*)$/gm
  const [lists, ...others] = [...busy.matchAll(info)]
  expect(others).toEqual([])
  expect(lists?.[1]).toBe('256')
  expect(lists?.[2]?.split(',')).toEqual([...runner.adapters.digests].sort())
  expect(lists?.[2]).toContain(used.digest)
  expect(lists?.[3]).toBe(queued.digest)
  expect(Math.abs(Number(lists?.[4]) - Date.now() / 1000)).toBeLessThan(60)

  caller.abort()
  await Promise.all(answers)
  await vi.waitFor(async () => {
    expect(loadOf(await read())).toEqual([0, 0, 0])
  }, 60_000)
})
