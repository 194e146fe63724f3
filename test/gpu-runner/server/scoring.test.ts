import { createHash } from 'node:crypto'
import { describe, test, vi } from 'vitest'
import { digestOf, encodeAdapter } from '../../../adapters/format/adapter-file.ts'
import { Executor } from '../../../gpu-runner/engine/executor.ts'
import type { GenerateRequest } from '../../../src/protocol/runner.ts'
import {
  decodeBinaryBody,
  encodeBinaryBody,
  encodeScoreBody,
  gradientResponseSchema,
  scoreResponseSchema,
  type GradientHeader,
} from '../../../src/protocol/runner-scoring.ts'
import { MODEL_DIGEST, randomRotation } from '../../fixtures/runner.ts'
import {
  ask,
  BASE,
  call,
  errorOf,
  generate,
  runner,
  useServedRunner,
} from '../../fixtures/served-runner.ts'

useServedRunner()

/** The training graph may be loading. */
const MODEL_WAIT_MS = 60_000

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

  test('examples are measured against the context', async ({ expect }) => {
    const long = [{ role: 'user', content: 'word '.repeat(100_000) }]
    const body = { ...dataset, examples: [...dataset.examples, { messages: long, label: 0 }] }
    const measure = (wire: object) =>
      call('/v1/measure', { method: 'POST', body: JSON.stringify(wire) })
    expect(await (await measure(body)).json()).toEqual({ too_long: [3] })
    expect(await (await measure({ examples: [{ messages: long }] })).json()).toEqual({
      too_long: [0],
    })
    expect(await errorOf(await measure({ examples: [] }))).toMatchObject({
      status: 400,
      code: 'invalid_request',
    })
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

  test('is refused if values, layers, examples or the build do not fit', async ({ expect }) => {
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

  test('is aborted between steps when its caller disconnects', async ({ expect }) => {
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
