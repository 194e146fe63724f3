import { describe, it } from 'vitest'
import type { Experiment, ExperimentSummary } from '../../src/protocol/arcana/experiment.ts'
import {
  accepted,
  client,
  projectId,
  runner,
  uploadExamples,
  useFreshProject,
} from './fresh-project.ts'
import { MODEL, publishTask } from './harness.ts'
import { createJob, EXAMPLES, waitFor } from './label-jobs.ts'
import { refuse } from './runner-double.ts'

useFreshProject()

const LABELS = ['World', 'Sports']
const ROWS = Array.from({ length: 12 }, (_, i) => ({
  input: `row ${i}`,
  label: LABELS[i % 2]!,
}))

const create = (body: object, headers: Record<string, string> = {}) =>
  client.call('POST', '/v1/experiments', body, headers)

/** The base model always says "World"; an adapter is right except in the named rows. */
function answerRows(wrong: readonly number[] = []): void {
  runner.chosenLabel = ({ messages, choice }, arm) => {
    const named = /row (\d+)/.exec(JSON.stringify(messages))?.[1]
    const row = Number(named ?? 0)
    const isTaught = arm.adapters.length > 0 && named !== undefined
    const answer = isTaught ? (wrong.includes(row) ? row + 1 : row) : 0
    return choice!.labels.indexOf(LABELS[answer % 2]!)
  }
}

describe('an experiment', () => {
  it('says how much better an arm is, on which lines, and keeps that', async ({ expect }) => {
    await publishTask(projectId, 'a')
    answerRows([0])
    const file = await uploadExamples(ROWS)
    const made = await accepted<Experiment>(create({ file, arms: ['base', 'a'] }))
    expect(made).toMatchObject({
      object: 'arcana.experiment',
      model: MODEL,
      file,
      frame: { arm: 1, task: 'a', version: 1, instructions: 'Answer with the category only.' },
      labels: LABELS,
      num_rows: 12,
      usage: { prompt_tokens: 12 * 7 },
    })
    const [base, learnt] = made.arms
    expect(base).toMatchObject({
      arm: 'base',
      accuracy: 0.5,
      confusion: [
        [6, 0],
        [6, 0],
      ],
      against_first: null,
      summary: '"base" answers 6 of 12 rows right.',
    })
    expect(learnt).toMatchObject({
      accuracy: 11 / 12,
      balanced_accuracy: (5 / 6 + 1) / 2,
      confusion: [
        [5, 1],
        [0, 6],
      ],
      num_seen_rows: 0,
      against_first: {
        difference: 5 / 12,
        // Six won and one lost: 2 · (1 + 7) / 2^7.
        p_value: expect.closeTo(0.125, 9) as number,
        adjusted_p_value: expect.closeTo(0.125, 9) as number,
        won: [2, 4, 6, 8, 10, 12],
        lost: [1],
      },
      arcana: { task: 'a', version: 1 },
    })
    expect(learnt!.summary).toContain('This may be chance')
    expect(made.rows[0]).toEqual({ line: 1, label: 'World', answers: ['World', 'Sports'] })

    expect(await accepted(client.call('GET', `/v1/experiments/${made.id}`))).toEqual(made)
    const second = await accepted<Experiment>(create({ file, arms: ['a', 'base'] }))
    expect(second.arms[1]!.against_first).toMatchObject({
      difference: -5 / 12,
      lost: [2, 4, 6, 8, 10, 12],
    })
    const list = await accepted<{ data: ExperimentSummary[]; has_more: boolean }>(
      client.call('GET', '/v1/experiments?order=asc&limit=1'),
    )
    expect(list).toMatchObject({
      data: [{ id: made.id, arms: made.arms, num_rows: 12 }],
      has_more: true,
    })
    expect(list.data[0]).not.toHaveProperty('rows')
    await accepted(client.call('DELETE', `/v1/experiments/${made.id}`))
    expect((await client.call('GET', `/v1/experiments/${made.id}`)).status).toBe(404)
  })

  it('asks all arms of a row in one call, behind live requests', async ({ expect }) => {
    await publishTask(projectId, 'a')
    const file = await uploadExamples(ROWS)
    await accepted(create({ file, arms: ['base', 'a', 'a*0.5'] }))
    const sent = runner.generateRequests.slice(-12)
    expect(sent.every(({ arms }) => arms.length === 3)).toBe(true)
    expect(new Set(sent.map(({ service_tier: tier }) => tier))).toEqual(new Set(['flex']))
    expect(sent.every(({ sampling }) => sampling.temperature === 0)).toBe(true)
  })

  it('says how many of the rows a task learnt from', async ({ expect }) => {
    const { id } = await createJob()
    await waitFor(id)
    answerRows()
    const file = await uploadExamples([...EXAMPLES.slice(1), ...ROWS])
    const { arms } = await accepted<Experiment>(create({ file, arms: ['base', 'news'] }))
    expect(arms.map(({ num_seen_rows: seen }) => seen)).toEqual([0, 3])
    expect(arms[1]!.summary).toContain('It learnt from 3 of these rows')
    expect(arms[1]!.against_first!.p_value).toBeCloseTo(2 / 2 ** 6)
    expect(arms[1]!.summary).toContain('"news" is better on such rows.')
  })

  it('that is invalid is refused by name', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'free', { labels: null })
    await publishTask(projectId, 'other', { labels: ['x', 'y'] })
    const file = await uploadExamples(ROWS)
    const foreign = await uploadExamples([...ROWS, { input: 'z', label: 'Business' }])
    const many = await uploadExamples(
      Array.from({ length: 501 }, (_, i) => ({ input: `row ${i}`, label: 'World' })),
    )
    const none = `file-${'0'.repeat(32)}`
    for (const [body, param, status, code] of [
      [{ file, arms: ['a'] }, 'arms', 400, null],
      [{ file, arms: ['base', 'base'] }, 'arms', 400, null],
      [{ file, arms: ['base', 'free'] }, 'arms', 400, 'labels_needed'],
      [{ file, arms: ['a', 'other'] }, 'arms[1]', 400, 'labels_differ'],
      [{ file, arms: ['base', 'nobody'] }, 'arms[1]', 404, 'model_not_found'],
      [{ file: foreign, arms: ['base', 'a'] }, 'file', 400, 'unknown_label'],
      [{ file: many, arms: ['base', 'a'] }, 'file', 400, 'too_many_rows'],
      [{ file: none, arms: ['base', 'a'] }, 'file', 400, 'file_not_found'],
      [{ file, arms: ['base', 'a'], model: `${MODEL}:a` }, 'model', 400, null],
      [{ file, arms: ['base', 'a'], seed: 3 }, 'seed', 400, null],
    ] as const) {
      const response = await create(body)
      const { error } = await response.json<{ error: { param: string; code: string | null } }>()
      expect({ param: error.param, status: response.status }).toEqual({ param, status })
      if (code !== null) expect(error.code).toBe(code)
    }
  })

  it('fails as a whole if a row fails, and keeps nothing', async ({ expect }) => {
    await publishTask(projectId, 'a')
    const file = await uploadExamples(ROWS)
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate') && runner.generateRequests.length >= 6
        ? refuse(400, 'invalid_request', 'fatal')
        : null
    const response = await create({ file, arms: ['base', 'a'] })
    expect(response.ok).toBe(false)
    const list = await accepted<{ data: unknown[] }>(client.call('GET', '/v1/experiments'))
    expect(list.data).toEqual([])
  })
})
