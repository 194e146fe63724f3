/** A job in rounds on the real product, with SIGKILL to workerd between its steps. */
import { afterAll, beforeAll, describe, it } from 'vitest'
import type { FineTuningJob } from '../../src/protocol/openai/fine-tuning.ts'
import { Api } from '../fixtures/api.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'

const JOB_TIMEOUT_MS = 200_000
const ROUNDS = { n_rounds: 2, n_samples: 4, n_steps: 1, learning_rate: 0.05 }
const INPUTS = [
  'Where is the station?',
  'What time is it?',
  'Is there any bread left?',
  'Who wrote this letter?',
  'Can you open the window?',
  'How far is the island?',
]

let stack: Stack
let api: Api

beforeAll(async () => {
  stack = await startStack()
  api = new Api(stack)
})
afterAll(async () => {
  await (stack as Stack | undefined)?.stop()
})

async function start(task: string): Promise<FineTuningJob> {
  const file = await api.upload(INPUTS.map((input) => ({ input })))
  return api.createJob(task, file.id, {
    guard: 'report',
    // Some answers speak to the asker, and some do not.
    grader: { type: 'string_check', operation: 'ilike', reference: 'you' },
    generation: { max_tokens: 12 },
    hyperparameters: { optimizer: 'iterative-dpo', ...ROUNDS },
  })
}

/** The scores of the rounds' texts, which depend only on the rotations and seeds. */
async function scoresOf({ id }: FineTuningJob) {
  const { data } = await api.events(id)
  return data
    .filter(({ type }) => type === 'metrics')
    .map(({ data: figures }) => [figures!['trial'], figures!['value'], figures!['drawn_score']])
    .reverse()
}

describe('a job in rounds', () => {
  it('ends the same if workerd dies between its steps', async ({ expect }) => {
    const calm = await api.untilFinished((await start('calm')).id, JOB_TIMEOUT_MS)
    const scores = await scoresOf(calm)
    console.log(JSON.stringify({ status: calm.status, error: calm.error?.code, scores }))
    expect(scores.map(([trial]) => trial)).toEqual([0, 1, 2])
    // The scores differ, so that there was something to fit.
    expect(scores[0]![2]).toBeGreaterThan(0)
    expect(scores[0]![2]).toBeLessThan(1)
    expect(new Set(scores.map(([, value]) => value)).size).toBeGreaterThan(1)

    const { id } = await start('killed')
    await api.untilTrials(id, 2, JOB_TIMEOUT_MS)
    process.kill((await stack.pids()).workerd, 'SIGKILL')
    const killed = await api.untilFinished(id, JOB_TIMEOUT_MS)
    expect(await scoresOf(killed)).toEqual(scores)
    expect(killed.status).toBe(calm.status)
    expect(killed.arcana.report?.adapter_digest).toBe(calm.arcana.report?.adapter_digest)
    const { data } = await api.events(id)
    const fits = data.filter(({ message }) => message.startsWith('Round '))
    expect(fits).toHaveLength(ROUNDS.n_rounds * ROUNDS.n_steps)
  })
})
