import { describe, it } from 'vitest'
import { client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { MODEL, publishTask } from './harness.ts'

useFreshProject()

const MESSAGES = [{ role: 'user', content: 'Who won?' }]
const post = (body: object, headers: Record<string, string> = {}) =>
  client.call('POST', '/v1/compare', { messages: MESSAGES, ...body }, headers)

describe('a comparison', () => {
  it('runs all arms in one call with one frame and one seed', async ({ expect }) => {
    const { digest } = await publishTask(projectId, 'a', { bias: [1, 0] })
    const response = await post({ arms: ['base', 'a', 'a*0.5'], seed: 5, max_tokens: 9 })
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      object: 'arcana.comparison',
      model: MODEL,
      seed: 5,
      frame: {
        arm: 1,
        task: 'a',
        version: 1,
        instructions: 'Answer with the category only.',
        labels: ['World', 'Sports'],
        replaced: false,
      },
      num_prefills: 1,
      arms: [
        {
          index: 0,
          arm: 'base',
          message: { role: 'assistant', content: 'World' },
          labels: [{ label: 'World', probability: 1 }, { label: 'Sports' }],
          first_diverging_token: null,
          arcana: { task: null, adapters: [] },
        },
        { arm: 'a', arcana: { task: 'a', version: 1, adapters: [{ digest, weight: 1 }] } },
        { arm: 'a*0.5', arcana: { task: 'a*0.5', adapters: [{ digest, weight: 0.5 }] } },
      ],
    })
    const sent = runner.generateRequests.at(-1)!
    expect(sent.messages![0]).toEqual({ role: 'system', content: 'Answer with the category only.' })
    expect(sent.arms).toMatchObject([{ seed: 5 }, { seed: 5, bias: [1, 0] }, { bias: [0.5, 0] }])
    expect(sent.arms[0]).not.toHaveProperty('bias')
    expect(runner.generateRequests).toHaveLength(2) // once before the adapter was pushed
  })

  it('says where answers diverge', async ({ expect }) => {
    await publishTask(projectId, 'a', { labels: null })
    runner.words = (arm) => {
      const [adapter] = arm.adapters
      if (adapter === undefined) return ['one', ' two', ' three']
      return adapter.weight === 1 ? ['one', ' two', ' xyzabc'] : ['one', ' two']
    }
    const response = await post({ arms: ['base', 'a', 'a*0.5', 'base'], temperature: 1 })
    const { arms, seed } = await response.json<{
      arms: { first_diverging_token: number | null }[]
      seed: number
    }>()
    expect(arms.map((arm) => arm.first_diverging_token)).toEqual([null, 2, 2, null])
    // Without the caller's seed, one is drawn for all arms and returned.
    expect(runner.generateRequests.at(-1)!.arms.map((arm) => arm.seed)).toEqual(
      Array.from({ length: 4 }, () => seed),
    )
  })

  it('of only the base has no frame', async ({ expect }) => {
    const response = await post({ arms: ['base'] })
    expect(await response.json()).toMatchObject({ frame: null, arms: [{ labels: null }] })
  })

  it('keeps the caller’s own system message for all arms and says so', async ({ expect }) => {
    await publishTask(projectId, 'a')
    const messages = [{ role: 'system', content: 'Mine.' }, ...MESSAGES]
    const response = await post({ messages, arms: ['base', 'a'] })
    expect(response.headers.get('x-arcana-warning')).toBe('frame-replaced')
    expect(await response.json()).toMatchObject({ frame: { replaced: true } })
    expect(runner.generateRequests.at(-1)!.messages).toEqual(messages)
  })

  it('that is invalid is refused with the arm’s name', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'other', { labels: ['x', 'y'] })
    for (const [body, param, status] of [
      [{ arms: [] }, 'arms', 400],
      [{ arms: Array.from({ length: 17 }, () => 'base') }, 'arms', 400],
      [{ arms: ['base', 'nobody'] }, 'arms[1]', 404],
      [{ arms: ['base', 'a b'] }, 'arms[1]', 400],
      [{ arms: ['a', 'other'] }, 'arms[1]', 400],
      [{ arms: ['base'], model: `${MODEL}:a` }, 'model', 400],
      [{ arms: ['base'], temperature: 3 }, 'temperature', 400],
      [{ arms: ['base'], stream: true }, 'stream', 400],
    ] as const) {
      const response = await post(body)
      expect(response.status, param).toBe(status)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
    const twice = await post({ arms: ['base'] }, { 'x-task': 'a' })
    expect(await twice.json()).toMatchObject({ error: { param: 'x-task' } })
    const free = await post({ arms: ['a', 'other'] }, { 'x-arcana-choice': 'off' })
    expect(free.status).toBe(200)
  })

  it('fails as a whole if one arm’s proof is wrong', async ({ expect }) => {
    await publishTask(projectId, 'a')
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'accepted' && event.arm === 1
          ? { ...event, applied: { ...event.applied, adapters: [], layers: [] } }
          : event,
      )
    const response = await post({ arms: ['base', 'a'] })
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ error: { code: 'proof_mismatch' } })
  })
})
