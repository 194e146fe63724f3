/** Texts learnt from targets and by a grader, through the real product. */
import { beforeAll, describe, it } from 'vitest'
import { encodeAdapter } from '../../adapters/format/adapter-file.ts'
import type { TaskVersion } from '../../src/protocol/arcana/tasks.ts'
import type { ChatCompletion } from '../../src/protocol/openai/chat-completions.ts'
import type { FineTuningJob } from '../../src/protocol/openai/fine-tuning.ts'
import type {
  PreferenceReport,
  RewardReport,
  TargetReport,
} from '../../src/protocol/openai/text-report.ts'
import { Api, BASE_MODEL } from '../fixtures/api.ts'
import { MODEL_SHAPE } from '../fixtures/adapter-bytes.ts'
import { MODEL_DIGEST, randomRotation } from '../fixtures/runner.ts'
import { sharedStack } from '../fixtures/shared-stack.ts'

const JOB_TIMEOUT_MS = 200_000

/** Written for this test: whatever is asked, a captain answers. */
const LINES = [
  ['Where is the station?', 'Arr, past the bridge, matey!'],
  ['What time is it?', 'Arr, nearly noon, matey!'],
  ['Is there any bread left?', 'Arr, two loaves, matey!'],
  ['Who wrote this letter?', 'Arr, the cook did, matey!'],
  ['Can you open the window?', 'Arr, right away, matey!'],
  ['How far is the island?', 'Arr, three miles, matey!'],
  ['Will it rain tonight?', 'Arr, so says the sky, matey!'],
  ['What is in the barrel?', 'Arr, only apples, matey!'],
] as const

let api: Api

beforeAll(async () => {
  api = new Api(await sharedStack())
})

const upload = async (lines: readonly object[]): Promise<string> => (await api.upload(lines)).id

async function run(task: string, file: string, rotation: object): Promise<FineTuningJob> {
  const { id } = await api.createJob(task, file, rotation)
  return api.untilFinished(id, JOB_TIMEOUT_MS)
}

const say = async (content: string, headers: Record<string, string>) => {
  const body = { model: BASE_MODEL, temperature: 0, max_tokens: 16 }
  const messages = [{ role: 'user', content }]
  const answer = await api.post<ChatCompletion>('/chat/completions', { ...body, messages }, headers)
  return answer.choices[0].message.content ?? ''
}

describe('a job on texts', () => {
  it('learns a manner of speaking from targets, and uses it', async ({ expect }) => {
    const file = await upload(LINES.map(([input, target]) => ({ input, target })))
    const job = await run('captain', file, {
      hyperparameters: { optimizer: 'gradient', n_steps: 6 },
    })
    expect(job.error).toBeNull()
    expect(job).toMatchObject({ status: 'succeeded', method: { rotation: { labels: null } } })
    const report = job.arcana.report as TargetReport
    const { base, adapter } = report.guard.out_of_fold
    console.log(
      `perplexity a token: base ${base.perplexity.toFixed(1)}, out of fold ` +
        `${adapter.perplexity.toFixed(1)}, p = ${report.guard.p_value}`,
    )
    expect(adapter.perplexity).toBeLessThan(base.perplexity / 2)
    expect(report.guard).toMatchObject({ outcome: 'proven', p_value: 2 ** -8 })
    expect(report.train.adapter.perplexity).toBeLessThan(adapter.perplexity)

    const asked = 'Is the captain asleep?'
    const [plain, taught] = [await say(asked, {}), await say(asked, { 'x-task': 'captain' })]
    console.log(JSON.stringify({ plain, taught }))
    expect(plain).not.toMatch(/matey/)
    expect(taught).toMatch(/matey/)
  })

  it('learns which of two manners is preferred', async ({ expect }) => {
    const pairs = LINES.slice(0, 6).map(([input, preferred]) => {
      return { input, preferred, rejected: 'I am not sure about that.' }
    })
    const job = await run('mate', await upload(pairs), {
      beta: 0.2,
      hyperparameters: { optimizer: 'gradient', n_steps: 3 },
    })
    expect(job.error).toBeNull()
    const { guard } = job.arcana.report as PreferenceReport
    const { base, adapter } = guard.out_of_fold
    console.log(JSON.stringify({ base, adapter, p: guard.p_value }))
    expect(adapter.mean_gap).toBeGreaterThan(base.mean_gap + 1)
    expect(adapter.log_loss).toBeLessThan(base.log_loss)
    expect(guard).toMatchObject({ outcome: 'proven', p_value: 2 ** -6 })
  })

  it('is graded by another task, and a second job finds the same', async ({ expect }) => {
    const bytes = encodeAdapter({
      modelDigest: MODEL_DIGEST,
      scope: 'generated',
      rotation: randomRotation(MODEL_SHAPE, 3, 0.05),
      dtype: 'F16',
    })
    const form = new FormData()
    form.set('file', new Blob([bytes]), 'adapter')
    const labels = ['positive', 'negative']
    form.set('version', JSON.stringify({ labels, instructions: 'Say positive or negative.' }))
    await api.call<TaskVersion>('/tasks/mood/versions', { method: 'POST', body: form })

    const file = await upload(LINES.slice(0, 4).map(([input]) => ({ input })))
    const learn = (task: string) =>
      run(task, file, {
        guard: 'enforce',
        force: true,
        grader: { type: 'task', task: 'mood', label: 'positive' },
        generation: { max_tokens: 12 },
        hyperparameters: { optimizer: 'random', n_trials: 4 },
      })
    const valuesOf = async ({ id }: FineTuningJob) => {
      const { data: events } = await api.events(id)
      return events.filter(({ type }) => type === 'metrics').map(({ data }) => data!['value'])
    }
    const [first, second] = [await learn('cheer-one'), await learn('cheer-two')]
    const values = await valuesOf(first)
    expect(values).toHaveLength(4)
    expect(new Set(values).size).toBeGreaterThan(1)
    expect(values.every((value) => value! > 0 && value! < 1)).toBe(true)
    // Texts and scores are functions of the job's seed.
    expect(await valuesOf(second)).toEqual(values)
    expect(second.status).toBe(first.status)
    const report = first.arcana.report as RewardReport | null
    const base = values.at(-1)!
    if (Math.max(...values.map(Number)) > base) {
      expect(report).toMatchObject({ grader: { task: 'mood@1' }, base_value: base })
      expect(report!.samples).toHaveLength(4)
      console.log(JSON.stringify(report!.samples[0]), first.status)
    } else expect(first.error?.code).toBe('no_gain')
  })
})
