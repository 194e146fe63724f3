/** Experiments through the real product: does a task answer rows better that it has not seen? */
import { beforeAll, describe, it } from 'vitest'
import type { Experiment } from '../../src/protocol/arcana/experiment.ts'
import { Api } from '../fixtures/api.ts'
import { sharedStack } from '../fixtures/shared-stack.ts'

const JOB_TIMEOUT_MS = 120_000
const TASK = 'kitchen-or-garden'

/** Written for this test. */
const KITCHEN = [
  'The soup needs a pinch of salt.',
  'Preheat the oven before you knead the dough.',
  'She whisked the eggs with a fork.',
  'The kettle whistles on the stove.',
  'Chop two onions and fry them in butter.',
  'He rinsed the pan and dried the plates.',
  'The cake must cool before you ice it.',
  'A sharp knife makes thin slices of bread.',
  'Simmer the sauce until it thickens.',
  'The fridge is full of cheese and milk.',
  'Sift the flour into the bowl.',
  'The toast burnt while we talked.',
]
const GARDEN = [
  'The roses need pruning in March.',
  'He raked the leaves off the lawn.',
  'Slugs ate the young lettuce beds overnight.',
  'Water the seedlings in the evening.',
  'The hedge grows over the fence.',
  'She dug the compost into the soil.',
  'Tulip bulbs go into the ground in autumn.',
  'The wheelbarrow stands under the apple tree.',
  'Weeds come up between the paving stones.',
  'The bees like the lavender by the gate.',
  'Mow the grass before it rains.',
  'The greenhouse is warm enough for seeds.',
]
const rowsOf = (from: number, to: number) => [
  ...KITCHEN.slice(from, to).map((input) => ({ input, label: 'kitchen' })),
  ...GARDEN.slice(from, to).map((input) => ({ input, label: 'garden' })),
]

let api: Api

beforeAll(async () => {
  api = new Api(await sharedStack())
})

describe('an experiment', () => {
  it('compares a learnt task with the base model on rows of a file', async ({ expect }) => {
    const learnt = await api.upload(rowsOf(0, 8))
    const { id } = await api.createJob(TASK, learnt.id, {
      instructions: 'Where does this happen? Answer with one of: kitchen, garden',
      hyperparameters: { optimizer: 'gradient' },
      force: true,
    })
    const job = await api.untilFinished(id, JOB_TIMEOUT_MS)
    expect(job.error).toBeNull()

    const unseen = await api.upload(rowsOf(8, 12))
    const made = await api.post<Experiment>('/experiments', {
      file: unseen.id,
      arms: ['base', TASK],
    })
    const [base, task] = made.arms
    console.log(made.arms.map(({ summary }) => summary).join('\n'), made.latency_ms)
    expect(made.num_rows).toBe(8)
    expect(task!.num_seen_rows).toBe(0)
    expect(task!.arcana).toMatchObject({ task: TASK, version: 1 })
    expect(task!.accuracy).toBeGreaterThan(base!.accuracy)

    // The rows are answered as a chat answers them, one by one.
    for (const [i, { input }] of rowsOf(8, 12).entries()) {
      const chat = await api.post<{ choices: { message: { content: string } }[] }>(
        '/chat/completions',
        { model: made.model, temperature: 0, messages: [{ role: 'user', content: input }] },
        { 'x-task': TASK },
      )
      expect(made.rows[i]!.answers[1]).toBe(chat.choices[0]!.message.content)
    }

    const again = await api.post<Experiment>('/experiments', {
      file: learnt.id,
      arms: ['base', TASK],
    })
    expect(again.arms.map(({ num_seen_rows: seen }) => seen)).toEqual([0, 16])
    console.log(again.arms.map(({ summary }) => summary).join('\n'), again.latency_ms)
  })
})
