import { describe, it } from 'vitest'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import { publishTask, readSse } from '../harness.ts'
import { createJob, waitFor } from '../label-jobs.ts'

useFreshProject()

describe('confidence', () => {
  /** The runner says 0.8 and 0.2. */
  const sayUnsure = () => {
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'labels'
          ? {
              ...event,
              labels: event.labels.map((label, i) => ({ ...label, probability: [0.8, 0.2][i]! })),
            }
          : event,
      )
  }
  type Answer = {
    choices: { message: { content: string | null } }[]
    arcana: { labels: { probability: number }[]; withheld?: boolean; min_confidence?: number }
  }
  const ask = async (task: string, arcana?: object): Promise<Answer> => {
    const response = await client.chat(arcana === undefined ? {} : { arcana }, { 'x-task': task })
    if (!response.ok) throw new Error(await response.text())
    return response.json<Answer>()
  }

  it('has the version’s temperature applied, in answers and comparisons', async ({ expect }) => {
    sayUnsure()
    await publishTask(projectId, 'warm', { temperature: 2 })
    const { arcana, choices } = await ask('warm')
    // √0.8 : √0.2 is 2 : 1.
    expect(arcana.labels[0]!.probability).toBeCloseTo(2 / 3, 12)
    expect(arcana.labels[1]!.probability).toBeCloseTo(1 / 3, 12)
    expect(choices[0]!.message.content).toBe('World')
    expect(arcana).not.toHaveProperty('withheld')
    const response = await client.call('POST', '/v1/compare', {
      messages: [{ role: 'user', content: 'Hi' }],
      arms: ['base', 'warm', 'warm*0.5'],
    })
    const { arms } = await response.json<{ arms: { labels: { probability: number }[] }[] }>()
    expect(arms.map(({ labels }) => labels[0]!.probability)).toEqual([
      0.8,
      expect.closeTo(2 / 3, 12),
      0.8,
    ])
  })

  it('below the request’s minimum gives no content, or the fallback', async ({ expect }) => {
    sayUnsure()
    await publishTask(projectId, 'warm', { temperature: 2 })
    const sure = await ask('warm', { min_confidence: 0.6 })
    expect(sure.choices[0]!.message.content).toBe('World')
    expect(sure.arcana).toMatchObject({ withheld: false, min_confidence: 0.6 })
    const none = await ask('warm', { min_confidence: 0.7 })
    expect(none.choices[0]!.message.content).toBeNull()
    expect(none.arcana).toMatchObject({ withheld: true, min_confidence: 0.7 })
    const named = await ask('warm', { min_confidence: 0.7, fallback_label: 'unsure' })
    expect(named.choices[0]!.message.content).toBe('unsure')
  })

  it('below the task’s minimum does the same, and a request’s minimum overrides it', async ({
    expect,
  }) => {
    sayUnsure()
    await publishTask(projectId, 'shy', { minConfidence: 0.9, fallbackLabel: 'ask a human' })
    expect((await ask('shy')).choices[0]!.message.content).toBe('ask a human')
    expect((await ask('shy', { min_confidence: 0.95 })).choices[0]!.message.content).toBe(
      'ask a human',
    )
    expect((await ask('shy', { min_confidence: 0 })).choices[0]!.message.content).toBe('World')
  })

  it('is checked in a stream', async ({ expect }) => {
    sayUnsure()
    await publishTask(projectId, 'shy', { minConfidence: 0.9, fallbackLabel: 'ask a human' })
    const textOf = async (body: object, task = 'shy') => {
      const response = await client.chat({ stream: true, ...body }, { 'x-task': task })
      const { events } = await readSse(response)
      const chunks = events as unknown as {
        choices: { delta: { content?: string | null } }[]
        arcana?: { withheld?: boolean }
      }[]
      const deltas = chunks.flatMap(({ choices }) => choices[0]?.delta.content ?? [])
      return {
        // As clients join them: null where no delta has a text, be it an empty one.
        text: deltas.length === 0 ? null : deltas.join(''),
        withheld: chunks.at(-1)?.arcana?.withheld,
      }
    }
    expect(await textOf({})).toEqual({ text: 'ask a human', withheld: true })
    expect(await textOf({ arcana: { min_confidence: 0.5 } })).toEqual({
      text: 'World',
      withheld: false,
    })
    await publishTask(projectId, 'mute', { minConfidence: 0.9 })
    expect(await textOf({}, 'mute')).toEqual({ text: null, withheld: true })
  })

  it('is refused for free text, or without a minimum', async ({ expect }) => {
    for (const [body, param] of [
      [{ arcana: { min_confidence: 0.5 } }, 'arcana.min_confidence'],
      [{ arcana: { min_confidence: 2 } }, 'arcana.min_confidence'],
      [{ arcana: { fallback_label: 'x' } }, 'arcana.fallback_label'],
      [{ arcana: { other: 1 } }, 'arcana.other'],
    ] as const) {
      const response = await client.chat(body)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
  })

  it('is learnt with the task', async ({ expect }) => {
    const fields = { min_confidence: 0.6, fallback_label: 'unsure', force: true }
    const job = await createJob({
      method: {
        type: 'rotation',
        rotation: {
          guard: 'enforce',
          hyperparameters: { optimizer: 'random', n_trials: 24 },
          ...fields,
        },
      },
    })
    expect(job).toMatchObject({ method: { rotation: fields } })
    expect((await waitFor(job.id)).status).toBe('succeeded')
    const { versions } = await (
      await client.call('GET', '/v1/tasks/news')
    ).json<{ versions: object[] }>()
    expect(versions[0]).toMatchObject({ min_confidence: 0.6, fallback_label: 'unsure' })
  })
})
