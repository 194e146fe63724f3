import { describe, it } from 'vitest'
import { client, postJob, useFreshProject } from '../fresh-project.ts'

useFreshProject()

type Lines = readonly object[]
const twelve = (line: (i: number) => object): Lines => Array.from({ length: 12 }, (_, i) => line(i))
const LABELS = twelve((i) => ({ input: `line ${i}`, label: i % 2 === 0 ? 'a' : 'b' }))
const TARGETS = twelve((i) => ({ input: `line ${i}`, target: `Answer number ${i}.` }))
const PAIRS = twelve((i) => ({
  input: `line ${i}`,
  preferred: `Yes, ${i}.`,
  rejected: `No, ${i}.`,
}))
const GRADER = { type: 'string_check', operation: 'ilike', reference: 'thanks' }

const start = (lines: Lines, rotation: object): Promise<Response> => postJob(rotation, lines)

describe('the optimizer, left to the service', () => {
  it.for([
    ['labels', LABELS, {}, { optimizer: 'auto', n_trials: 32, budget_seconds: 40 }],
    [
      'labels under the scope all',
      LABELS,
      { scope: 'all' },
      { optimizer: 'bo', subspace: 'random' },
    ],
    [
      'targets',
      TARGETS,
      {},
      { optimizer: 'gradient', n_steps: 24, learning_rate: 0.05, prompt_dropout: 0 },
    ],
    [
      'pairs',
      PAIRS,
      {},
      { optimizer: 'gradient', n_steps: 24, learning_rate: 0.05, prompt_dropout: 0 },
    ],
    [
      'a grader',
      TARGETS,
      { grader: GRADER },
      {
        optimizer: 'iterative-dpo',
        n_rounds: 4,
        n_samples: 6,
        n_steps: 3,
        learning_rate: 0.05,
      },
    ],
  ] as const)('suits %s', async ([, lines, rotation, hyperparameters], { expect }) => {
    const response = await start(lines, rotation)
    expect(response.status).toBe(200)
    const job = await response.json<{ id: string }>()
    expect(job).toMatchObject({ method: { rotation: { hyperparameters } } })
    await client.call('POST', `/v1/fine_tuning/jobs/${job.id}/cancel`)
  })

  it.for([
    ['targets', TARGETS, {}, { budget_seconds: 10 }, 'budget_seconds'],
    ['pairs', PAIRS, {}, { n_trials: 10 }, 'n_trials'],
    ['a grader', TARGETS, { grader: GRADER }, { budget_seconds: 10 }, 'budget_seconds'],
    [
      'labels under the scope all',
      LABELS,
      { scope: 'all' },
      { budget_seconds: 10 },
      'budget_seconds',
    ],
  ] as const)(
    'refuses what it has no use for, by name: %s',
    async ([, lines, rotation, hyperparameters, name], { expect }) => {
      const response = await start(lines, { ...rotation, hyperparameters })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({
        error: { param: `method.rotation.hyperparameters.${name}` },
      })
    },
  )
})
