import { describe, it } from 'vitest'
import type {
  ChatCompletion,
  ChatCompletionChunk,
} from '../../../src/protocol/openai/chat-completions.ts'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import { makeProject, MODEL, publishTask, readSse } from '../harness.ts'

useFreshProject()

describe('a task', () => {
  it('is applied, framed, restricted to its labels, and proven', async ({ expect }) => {
    const { digest } = await publishTask(projectId, 'ag-news')
    for (const [body, headers] of [
      [{}, { 'x-task': 'ag-news' }],
      [{ model: `${MODEL}:ag-news` }, {}],
      [{ model: `${MODEL}:ag-news` }, { 'x-task': ' ag-news ' }],
    ] as const) {
      const response = await client.chat(body, headers)
      expect(response.status).toBe(200)
      expect(response.headers.get('x-arcana-task')).toBe('ag-news')
      expect(response.headers.get('x-arcana-version')).toBe('1')
      expect(response.headers.get('x-arcana-adapter')).toBe(digest)
      expect(response.headers.get('x-arcana-warning')).toBeNull()
      expect(await response.json()).toMatchObject({
        model: `${MODEL}:ag-news`,
        choices: [{ message: { content: 'World' } }],
        arcana: {
          task: 'ag-news',
          version: 1,
          adapters: [{ digest, weight: 1, task: 'ag-news', version: 1 }],
          scope: 'generated',
          layers: [2],
          runner: 'runner-double',
          labels: [
            { label: 'World', probability: 1 },
            { label: 'Sports', probability: 0 },
          ],
        },
      })
    }
    expect(runner.generateRequests.at(-1)).toMatchObject({
      messages: [
        { role: 'system', content: 'Answer with the category only.' },
        { role: 'user', content: 'Hi' },
      ],
      sampling: { temperature: 0 },
      choice: { labels: ['World', 'Sports'] },
    })
    // The gateway sent the adapter once, when it was missing.
    expect(runner.callsTo('PUT /v1/adapters')).toBe(1)
  })

  it('gives its labels’ log probabilities, whole and streamed', async ({ expect }) => {
    await publishTask(projectId, 'ag-news', { temperature: 2 })
    runner.editEvents = (events) =>
      events.map((event) => {
        if (event.event !== 'labels') return event
        const labels = event.labels.map((label, i) => ({ ...label, probability: [0.8, 0.2][i]! }))
        return { ...event, labels }
      })
    const asked = { logprobs: true, top_logprobs: 2 }
    const headers = { 'x-task': 'ag-news' }
    const answer = await (await client.chat(asked, headers)).json<ChatCompletion>()
    // √0.8 : √0.2 is 2 : 1.
    const [world, sports] = ['World', 'Sports'].map((token, i) => ({
      token,
      logprob: expect.closeTo(Math.log([2 / 3, 1 / 3][i]!), 12) as number,
      bytes: [...new TextEncoder().encode(token)],
    }))
    const logprobs = { content: [{ ...world, top_logprobs: [world, sports] }], refusal: null }
    expect(answer.choices[0].logprobs).toEqual(logprobs)
    // The runner is asked for the labels alone.
    expect(runner.generateRequests.at(-1)?.sampling).not.toHaveProperty('logprobs')
    const { events } = await readSse(await client.chat({ ...asked, stream: true }, headers))
    const told = (events as unknown as ChatCompletionChunk[]).flatMap(
      ({ choices }) => choices[0]?.logprobs ?? [],
    )
    expect(told).toEqual([logprobs])
    const one = await (await client.chat({ logprobs: true }, headers)).json<ChatCompletion>()
    expect(one.choices[0].logprobs?.content).toEqual([{ ...world, top_logprobs: [] }])
    // A withheld label does not appear here either.
    const held = { ...asked, arcana: { min_confidence: 0.7 } }
    const withheld = await (await client.chat(held, headers)).json<ChatCompletion>()
    expect(withheld.choices[0]).toMatchObject({ message: { content: null }, logprobs: null })
    const { events: none } = await readSse(await client.chat({ ...held, stream: true }, headers))
    expect(JSON.stringify(none)).not.toContain('"top_logprobs"')
  })

  it('with a probability of 0 gives OpenAI’s least log probability', async ({ expect }) => {
    await publishTask(projectId, 'ag-news')
    const body = { logprobs: true, top_logprobs: 2 }
    const answer = await (await client.chat(body, { 'x-task': 'ag-news' })).json<ChatCompletion>()
    expect(answer.choices[0].logprobs?.content[0]?.top_logprobs).toMatchObject([
      { token: 'World', logprob: 0 },
      { token: 'Sports', logprob: -9999 },
    ])
  })

  it('says that its label is not cut by stop strings', async ({ expect }) => {
    await publishTask(projectId, 'ag-news')
    for (const stream of [false, true]) {
      const body = { stop: ['r', 'World'], stream }
      const response = await client.chat(body, { 'x-task': 'ag-news' })
      expect(response.headers.get('x-arcana-warning')).toBe('stop-of-label')
      expect(await response.text()).toContain('"World"')
      expect(runner.generateRequests.at(-1)?.sampling.stop).toEqual([])
      const free = { 'x-task': 'ag-news', 'x-arcana-choice': 'off' }
      const text = await client.chat(body, free)
      expect(text.headers.get('x-arcana-warning')).toBeNull()
      await text.text()
      expect(runner.generateRequests.at(-1)?.sampling.stop).toEqual(['r', 'World'])
    }
  })

  it('answers freely with x-arcana-choice: off', async ({ expect }) => {
    await publishTask(projectId, 'ag-news', { bias: [0.5, -0.5] })
    const response = await client.chat({}, { 'x-task': 'ag-news', 'x-arcana-choice': 'off' })
    const body = await response.json<{ arcana: object }>()
    expect(body).toMatchObject({ choices: [{ message: { content: 'Hello there' } }] })
    expect(body.arcana).not.toHaveProperty('labels')
    expect(runner.generateRequests.at(-1)).not.toHaveProperty('choice')
    expect(runner.generateRequests.at(-1)?.arms[0]).not.toHaveProperty('bias')
    const wrong = await client.chat({}, { 'x-task': 'ag-news', 'x-arcana-choice': 'no' })
    expect(wrong.status).toBe(400)
  })

  it('warns when the caller’s system message replaces its frame', async ({ expect }) => {
    await publishTask(projectId, 'ag-news')
    const messages = [
      { role: 'system', content: 'Mine.' },
      { role: 'user', content: 'Hi' },
    ]
    const response = await client.chat({ messages }, { 'x-task': 'ag-news' })
    expect(response.headers.get('x-arcana-warning')).toBe('frame-replaced')
    expect(runner.generateRequests.at(-1)?.messages).toEqual(messages)
  })

  it('may stand after the last user text', async ({ expect }) => {
    await publishTask(projectId, 'after', { position: 'after' })
    await client.chat(
      {
        messages: [
          { role: 'user', content: 'one' },
          { role: 'assistant', content: 'two' },
          { role: 'user', content: 'three' },
        ],
      },
      { 'x-task': 'after' },
    )
    expect(runner.generateRequests.at(-1)?.messages).toEqual([
      { role: 'user', content: 'one' },
      { role: 'assistant', content: 'two' },
      { role: 'user', content: 'three\n\nAnswer with the category only.' },
    ])
  })

  it('named twice and differently is refused', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'b')
    const response = await client.chat({ model: `${MODEL}:a` }, { 'x-task': 'b' })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'conflicting_selection' } })
  })

  it('may be a weighted sum of versions', async ({ expect }) => {
    const a = await publishTask(projectId, 'a', { bias: [1, 0], layer: 1 })
    await publishTask(projectId, 'b', { angle: 0.1, layer: 2 })
    const b2 = await publishTask(projectId, 'b', {
      angle: 0.2,
      layer: 3,
      labels: ['Sports', 'World'],
      bias: [2, 4],
    })
    await publishTask(projectId, 'c', { labels: null, angle: 0.3, layer: 1 })
    const response = await client.chat({}, { 'x-task': 'a*0.5 + b@2 - c*0.25' })
    expect(response.status).toBe(200)
    expect(response.headers.get('x-arcana-task')).toBe('a*0.5+b@2+c*-0.25')
    expect(response.headers.get('x-arcana-version')).toBe('1,2,1')
    expect(await response.json()).toMatchObject({
      arcana: {
        version: null,
        layers: [1, 3],
        adapters: [
          { digest: a.digest, weight: 0.5 },
          { digest: b2.digest, weight: 1 },
          { weight: -0.25, task: 'c' },
        ],
      },
    })
    // Bias of b in a's order: World 4, Sports 2.
    expect(runner.generateRequests.at(-1)?.arms[0]?.bias).toEqual([4.5, 2])
  })

  it('in a sum with incompatible terms is refused', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'other-labels', { labels: ['x', 'y'] })
    await publishTask(projectId, 'other-scope', { scope: 'all' })
    for (const [selection, code] of [
      ['a + other-labels', 'labels_differ'],
      ['a + other-scope', 'scopes_differ'],
    ]) {
      const response = await client.chat({}, { 'x-task': selection! })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { code, param: 'x-task' } })
    }
  })

  it('that is unknown, malformed or empty is refused', async ({ expect }) => {
    await publishTask(projectId, 'a')
    for (const [selection, status] of [
      ['nobody', 404],
      ['a@2', 404],
      ['A', 400],
      ['a*', 400],
      ['a*65', 400],
      ['a b', 400],
      ['+a', 400],
      ['a@0', 400],
      ['', 400],
    ] as const) {
      const response = await client.chat({}, { 'x-task': selection })
      expect(response.status, selection).toBe(status)
    }
    expect(runner.generateRequests).toHaveLength(0)
  })

  it('of another base model is refused with 400', async ({ expect }) => {
    await publishTask(projectId, 'old', { modelDigest: 'f'.repeat(64) })
    await publishTask(projectId, 'foreign', { model: 'llama' })
    for (const name of ['old', 'foreign']) {
      const response = await client.chat({}, { 'x-task': name })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { code: 'adapter_wrong_model' } })
    }
  })

  it('of another project does not exist', async ({ expect }) => {
    const other = await makeProject()
    await publishTask(other.projectId, 'theirs')
    const response = await client.chat({}, { 'x-task': 'theirs' })
    expect(response.status).toBe(404)
  })
})

describe('the proof', () => {
  const wrongs = {
    'no adapter': { adapters: [], layers: [] },
    'another adapter': { adapters: [{ digest: 'c'.repeat(64), weight: 1 }] },
    'another weight': null,
    'another scope': { scope: 'all' as const },
    'another model': { model_digest: 'c'.repeat(64) },
    'fewer layers': { layers: [] },
    'more layers': { layers: [1, 2] },
    'a bias nobody asked for': { bias_digest: 'c'.repeat(64) },
  }
  it.for(Object.entries(wrongs))(
    'fails with 502 where the runner applied %s, streamed or not',
    async ([, change], { expect }) => {
      await publishTask(projectId, 'a')
      runner.editEvents = (events) =>
        events.map((event) =>
          event.event === 'accepted'
            ? {
                ...event,
                applied: {
                  ...event.applied,
                  ...(change ?? {
                    adapters: event.applied.adapters.map((a) => ({ ...a, weight: 0.99 })),
                  }),
                },
              }
            : event,
        )
      for (const stream of [false, true]) {
        const response = await client.chat({ stream }, { 'x-task': 'a' })
        expect(response.status).toBe(502)
        expect(await response.json()).toMatchObject({ error: { code: 'proof_mismatch' } })
        expect(response.headers.get('x-arcana-task')).toBeNull()
      }
    },
  )

  it('is checked again at the end, and fails in band if the answer has begun', async ({
    expect,
  }) => {
    await publishTask(projectId, 'a')
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'end'
          ? { ...event, applied: { ...event.applied, adapters: [], layers: [] } }
          : event,
      )
    const whole = await client.chat({}, { 'x-task': 'a' })
    expect(whole.status).toBe(502)
    const streamed = await client.chat({ stream: true }, { 'x-task': 'a' })
    expect(streamed.status).toBe(200)
    const { events, isDone } = await readSse(streamed)
    expect(isDone).toBe(false)
    expect(events.at(-1)).toMatchObject({ error: { code: 'proof_mismatch' } })
  })
})
