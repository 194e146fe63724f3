import { accepted, client, finishJob, uploadExamples } from './fresh-project.ts'
import { MODEL } from './harness.ts'

/** The fields of the API's job that the tests read. */
export type Job = {
  id: string
  status: string
  error: { code: string; message: string } | null
  fine_tuned_model: string | null
  trained_tokens: number | null
  seed: number
  arcana: {
    version: number | null
    progress: { trials_done: number; trials_total: number; best_value: number; base_value: number }
    report: { train: { num_examples: number } } | null
  }
}

export const EXAMPLES = [
  { input: 'goal', label: 'Sports' },
  { input: 'vote', label: 'World' },
  { input: 'match', label: 'Sports' },
  { input: 'treaty', label: 'World' },
]

/** Enough trials to find a gain, and few enough for a test. */
const METHOD = {
  type: 'rotation',
  rotation: {
    instructions: 'Say the category.',
    hyperparameters: { optimizer: 'random', n_trials: 24 },
  },
}

/** A job whose guard only reports by default, because four examples show nothing. */
export async function createJob(overrides: Record<string, unknown> = {}): Promise<Job> {
  const body = {
    model: MODEL,
    training_file: await uploadExamples(EXAMPLES),
    suffix: 'news',
    seed: 7,
    method: METHOD as { rotation?: object } | undefined,
    ...overrides,
  }
  if (body.method?.rotation) {
    body.method = { ...body.method, rotation: { guard: 'report', ...body.method.rotation } }
  }
  return accepted(client.call('POST', '/v1/fine_tuning/jobs', body))
}

export const readJob = async (id: string): Promise<Job> =>
  (await client.call('GET', `/v1/fine_tuning/jobs/${id}`)).json()

export const waitFor = (id: string, statuses?: readonly string[]): Promise<Job> =>
  finishJob<Job>(id, statuses)

type Event = { id: string; type: string; message: string; data: { trial: number } | null }

export async function readEvents(id: string): Promise<Event[]> {
  const events: Event[] = []
  for (let after = ''; ; after = `&after=${events.at(-1)!.id}`) {
    const page = await (
      await client.call('GET', `/v1/fine_tuning/jobs/${id}/events?limit=7${after}`)
    ).json<{ data: Event[]; has_more: boolean }>()
    events.push(...page.data)
    if (!page.has_more) return events
  }
}

export const trialsOf = (events: readonly Event[]) =>
  events
    .filter(({ type }) => type === 'metrics')
    .map(({ data }) => data!.trial)
    .reverse()
export const upTo = (n: number) => Array.from({ length: n }, (_, i) => i)
