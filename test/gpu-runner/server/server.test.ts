import type { AddressInfo } from 'node:net'
import { request as httpRequest, type Server } from 'node:http'
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, test, vi } from 'vitest'
import { digestOf, encodeAdapter } from '../../../adapters/format/adapter-file.ts'
import { IDENTITY_SLOT } from '../../../gpu-runner/adapters/slot-table.ts'
import { Executor } from '../../../gpu-runner/engine/executor.ts'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { createRunnerServer } from '../../../gpu-runner/server/server.ts'
import {
  generateEventSchema,
  runnerErrorBodySchema,
  runnerStatusSchema,
  type Arm,
  type GenerateEvent,
  type GenerateRequest,
} from '../../../src/protocol/runner.ts'
import {
  decodeBinaryBody,
  encodeBinaryBody,
  encodeScoreBody,
  gradientResponseSchema,
  scoreResponseSchema,
  type GradientHeader,
} from '../../../src/protocol/runner-scoring.ts'
import {
  MODEL_DIGEST,
  openTestRunner,
  randomRotation,
  textOf,
  tokensOf,
} from '../../fixtures/runner.ts'

const SECRET = 'a-runner-secret-for-tests'
/** The training graph may be loading. */
const MODEL_WAIT_MS = 60_000
const BASE: Arm = { adapters: [], scope: 'generated' }
const ask = (content: string, extra: Partial<GenerateRequest> = {}): GenerateRequest => ({
  request_id: 'test',
  messages: [{ role: 'user', content }],
  arms: [BASE],
  sampling: { max_tokens: 8, temperature: 0, top_p: 1, stop: [] },
  ...extra,
})

let runner: Runner
let server: Server
let baseUrl: string

beforeAll(async () => {
  runner = await openTestRunner({ maxContext: 512, maxWaiting: 2 })
  server = createRunnerServer(runner, {
    runnerId: 'runner-test',
    secret: SECRET,
    modelSlug: 'smollm2-135m-instruct',
    modelDigest: MODEL_DIGEST,
    ortBackend: 'c-api',
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  server.close()
  await runner.release()
})

function call(path: string, init: RequestInit = {}, secret = SECRET): Promise<Response> {
  return fetch(baseUrl + path, { ...init, headers: { authorization: `Bearer ${secret}` } })
}
const post = (path: string, body: unknown): Promise<Response> =>
  call(path, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })

async function events(response: Response): Promise<GenerateEvent[]> {
  const lines = (await response.text()).trim().split('\n')
  return lines.map((line) => generateEventSchema.parse(JSON.parse(line)))
}
const generate = async (wire: GenerateRequest): Promise<GenerateEvent[]> =>
  events(await post('/v1/generate', wire))

async function errorOf(response: Response) {
  const { error } = runnerErrorBodySchema.parse(await response.json())
  return { status: response.status, code: error.code, param: error.param }
}

async function pushAdapter(seed: number, scope: 'generated' | 'all' = 'generated') {
  const bytes = encodeAdapter({
    modelDigest: MODEL_DIGEST,
    scope,
    rotation: randomRotation(runner, seed, 0.5),
    dtype: 'F16',
  })
  const digest = await digestOf(bytes)
  const response = await call(`/v1/adapters/${digest}`, { method: 'PUT', body: bytes })
  return { digest, bytes, response }
}

describe('generate', () => {
  test('an answer streams as accepted, tokens, end and done', async ({ expect }) => {
    const all = await generate(ask('What is the capital of France?'))
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

  test('an adapter of scope all turns the prompt too and costs its own prefill', async ({
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

  test('log probabilities are the model’s own, whatever bends the choice', async ({ expect }) => {
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
    const all = await generate(ask('What is the capital of France?', { sampling }))
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

  test('a caller that leaves frees its row at once', async ({ expect }) => {
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
  test('token shaping where it has no meaning, or names no token', async ({ expect }) => {
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

  test('labels that no decoding could tell apart', async ({ expect }) => {
    const choice = { labels: ['same', 'same'] }
    const response = await post('/v1/generate', ask('hi', { choice }))
    expect(await errorOf(response)).toMatchObject({ status: 400, param: 'labels' })
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
  test('one in use is retired by a delete, and is gone once its last request ends', async ({
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

describe('score', () => {
  const dataset = {
    labels: ['Paris', 'London', 'New York', 'New Delhi'],
    examples: ['France', 'England', 'India'].map((country, i) => ({
      messages: [{ role: 'user', content: `What is the capital of ${country}?` }],
      label: [0, 1, 3][i],
    })),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(dataset))
  const digest = createHash('sha256').update(bytes).digest('hex')
  const layers = [10, 29]

  const score = (numCandidates: number, values: Float32Array, header: object = {}) =>
    call('/v1/score', {
      method: 'POST',
      body: encodeScoreBody(
        {
          dataset: digest,
          scope: 'generated',
          num_candidates: numCandidates,
          layers: values.length > 0 ? layers : [],
          has_log_scale: false,
          ...header,
        },
        values,
      ),
    })

  test('a dataset that is not there is asked for', async ({ expect }) => {
    expect(await errorOf(await score(1, new Float32Array(0)))).toMatchObject({
      status: 404,
      code: 'dataset_not_resident',
    })
  })

  test('a candidate scores as the adapter of its angles serves', async ({ expect }) => {
    const put = await call(`/v1/datasets/${digest}`, { method: 'PUT', body: bytes })
    expect(await put.json()).toMatchObject({ num_examples: 3, num_labels: 4 })
    const rotation = randomRotation(runner, 9, 0.6)
    const pairs = (runner.config.numHeads * runner.config.headDim) / 2
    const values = new Float32Array(2 * layers.length * pairs)
    for (const [i, layer] of layers.entries()) {
      values.set(rotation.layers.get(layer)!.angles, (layers.length + i) * pairs)
    }
    // The first candidate is all zero: the base model.
    const scored = scoreResponseSchema.parse(await (await score(2, values)).json()).log_probs

    const adapter = encodeAdapter({
      modelDigest: MODEL_DIGEST,
      scope: 'generated',
      rotation: {
        geometry: rotation.geometry,
        layers: new Map(layers.map((layer) => [layer, rotation.layers.get(layer)!])),
      },
      dtype: 'F32',
    })
    const adapterDigest = await digestOf(adapter)
    await call(`/v1/adapters/${adapterDigest}`, { method: 'PUT', body: adapter })
    for (const [example, { messages }] of dataset.examples.entries()) {
      const served = await generate({
        ...ask(''),
        messages: messages as GenerateRequest['messages'],
        choice: { labels: dataset.labels },
        arms: [BASE, { adapters: [{ digest: adapterDigest, weight: 1 }], scope: 'generated' }],
      })
      for (const [arm, candidate] of scored.entries()) {
        const stated = served.find((event) => event.event === 'labels' && event.arm === arm)
        expect(stated).toMatchObject({
          labels: dataset.labels.map((label, i) => ({
            label,
            log_probability: candidate[example]![i],
          })),
        })
      }
    }
    expect(runner.context.slots.numLeased).toBe(0)
    expect((await score(2, values.slice(1))).status).toBe(400)
    expect(
      await errorOf(await score(1, new Float32Array(0), { build_digest: 'a'.repeat(64) })),
    ).toMatchObject({
      status: 409,
      code: 'build_mismatch',
    })
  })

  test('the same call gives the same numbers again', async ({ expect }) => {
    const first = await (await score(1, new Float32Array(0))).text()
    expect(await (await score(1, new Float32Array(0))).text()).toBe(first)
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

describe('gradient', () => {
  const dataset = {
    labels: ['Paris', 'London'],
    examples: ['France', 'England', 'Spain'].map((country, i) => ({
      messages: [{ role: 'user', content: `Name the capital of ${country} in one word.` }],
      label: i % 2,
    })),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(dataset))
  const digest = createHash('sha256').update(bytes).digest('hex')
  const layers = [10, 29]
  const pairs = 9 * 32

  const gradient = (
    values: Float32Array,
    header: Partial<GradientHeader> = {},
    signal: AbortSignal | null = null,
  ) =>
    call('/v1/gradient', {
      method: 'POST',
      signal,
      body: encodeBinaryBody(
        { dataset: digest, num_candidates: 1, layers, has_log_scale: false, ...header },
        values,
      ),
    })
  const identity = (weights: readonly number[], numCandidates = 1) =>
    Float32Array.of(...new Float32Array(numCandidates * layers.length * pairs), ...weights)
  const push = () => call(`/v1/datasets/${digest}`, { method: 'PUT', body: bytes })

  test('a dataset that is not there is asked for', async ({ expect }) => {
    expect(await errorOf(await gradient(identity([1, 1, 1])))).toMatchObject({
      code: 'dataset_not_resident',
    })
  })

  test('answers with losses, log probabilities and slopes, downhill of which is better', async ({
    expect,
  }) => {
    await push()
    const read = async (values: Float32Array) => {
      const response = await gradient(values)
      expect(response.status).toBe(200)
      const body = decodeBinaryBody(new Uint8Array(await response.arrayBuffer()))!
      const header = gradientResponseSchema.parse(JSON.parse(body.headerJson))
      expect(header).toEqual({
        build_digest: runner.context.buildDigest,
        num_candidates: 1,
        num_examples: 3,
      })
      expect(body.values).toHaveLength(1 + 3 + layers.length * pairs)
      return {
        loss: body.values[0]!,
        logProbs: body.values.subarray(1, 4),
        slopes: body.values.subarray(4),
      }
    }
    const weights = [0.5, 0.25, 0.25]
    const start = await read(identity(weights))
    const loss = weights.reduce((sum, weight, i) => sum - weight * start.logProbs[i]!, 0)
    expect(start.loss).toBeCloseTo(loss, 5)
    const length = Math.hypot(...start.slopes)
    const moved = start.slopes.map((slope) => (-0.3 * slope) / length)
    const end = await read(Float32Array.of(...moved, ...weights))
    expect(end.loss).toBeLessThan(start.loss)
  })

  test('is refused where values, layers, examples or the build do not fit', async ({ expect }) => {
    await push()
    const whole = identity([1, 1, 1])
    for (const [values, header] of [
      [whole.subarray(1), {}],
      [whole, { has_log_scale: true }],
      [whole, { layers: [10, 99] }],
      [whole, { layers: [] }],
      [whole, { examples: [0, 3, 1] }],
      [whole, { num_candidates: 33 }],
      [whole.map((value, i) => (i === 0 ? NaN : value)), {}],
      [whole.map((value, i) => (i === whole.length - 1 ? Infinity : value)), {}],
    ] as const) {
      const response = await gradient(values, header as Partial<GradientHeader>)
      expect(await errorOf(response)).toMatchObject({ status: 400, code: 'invalid_request' })
    }
    const other = await gradient(whole, { build_digest: 'e'.repeat(64) })
    expect(await errorOf(other)).toMatchObject({ status: 409, code: 'build_mismatch' })
    const cut = await call('/v1/gradient', { method: 'POST', body: new Uint8Array(7) })
    expect(await errorOf(cut)).toMatchObject({ status: 400, code: 'invalid_request' })
  })

  test('is given up between steps when its caller leaves', async ({ expect }) => {
    await push()
    const numSteps = vi.spyOn(Executor.prototype, 'takeTurn')
    const controller = new AbortController()
    const numCandidates = 32
    const call = gradient(
      identity(new Array<number>(3 * numCandidates).fill(1), numCandidates),
      { num_candidates: numCandidates },
      controller.signal,
    )
    await vi.waitFor(() => {
      expect(numSteps).toHaveBeenCalled()
    }, MODEL_WAIT_MS)
    controller.abort()
    await expect(call).rejects.toThrow()
    // Another call gets its turn once the first has stopped: after fewer than its three steps.
    await gradient(identity([1, 1, 1]))
    expect(numSteps.mock.calls.length).toBeLessThan(3 + 1)
    numSteps.mockRestore()
  })
})
