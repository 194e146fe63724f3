import { afterEach, beforeEach, vi } from 'vitest'
import { clientOf, makeProject, MODEL, type Client } from './harness.ts'
import { RunnerDouble } from './runner-double.ts'

/** The running test's runner, project, and a client with the project's key. */
export let runner: RunnerDouble
export let client: Client
export let projectId: string

/** Gives each test of the calling file a runner and a project of its own. */
export function useFreshProject(): void {
  beforeEach(async () => {
    runner = new RunnerDouble()
    runner.install()
    const project = await makeProject()
    projectId = project.projectId
    client = clientOf(project.key)
  })
  afterEach(() => {
    vi.restoreAllMocks()
  })
}

/** Uploads examples as a training file, one per line. */
export function postExamples(examples: readonly object[]): Promise<Response> {
  const form = new FormData()
  const text = examples.map((line) => JSON.stringify(line)).join('\n')
  form.append('file', new File([text], 'examples.jsonl'))
  form.append('purpose', 'fine-tune')
  return client.call('POST', '/v1/files', form)
}

/** The body of a successful answer. */
export async function accepted<Body>(answer: Promise<Response>): Promise<Body> {
  const response = await answer
  if (!response.ok) throw new Error(await response.text())
  return response.json<Body>()
}

/** @returns the id of the examples' file */
export const uploadExamples = async (examples: readonly object[]): Promise<string> =>
  (await accepted<{ id: string }>(postExamples(examples))).id

/** Asks for a job that learns examples by a rotation. */
export const postJob = async (
  rotation: object,
  examples: readonly object[],
  overrides: Record<string, unknown> = {},
): Promise<Response> =>
  client.call('POST', '/v1/fine_tuning/jobs', {
    model: MODEL,
    training_file: await uploadExamples(examples),
    suffix: 'learnt',
    seed: 7,
    method: { type: 'rotation', rotation },
    ...overrides,
  })

/** Asks for a job until it has one of the statuses: those of an end where none are named. */
export const finishJob = <Job extends { readonly status: string }>(
  id: string,
  statuses: readonly string[] = ['succeeded', 'failed', 'cancelled'],
): Promise<Job> =>
  vi.waitFor(
    async () => {
      const job = await (await client.call('GET', `/v1/fine_tuning/jobs/${id}`)).json<Job>()
      if (!statuses.includes(job.status)) throw new Error(`job is ${job.status}`)
      return job
    },
    { timeout: 60_000, interval: 20 },
  )
