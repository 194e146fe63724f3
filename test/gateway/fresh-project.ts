import { afterEach, beforeEach, vi } from 'vitest'
import { clientOf, makeProject, type Client } from './harness.ts'
import { RunnerDouble } from './runner-double.ts'

/** Of the test that runs now: its runner, its project and a client with the project's key. */
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

/** Asks for a job until it has succeeded or failed. */
export const finishJob = <Job extends { readonly status: string }>(id: string): Promise<Job> =>
  vi.waitFor(
    async () => {
      const job = await (await client.call('GET', `/v1/fine_tuning/jobs/${id}`)).json<Job>()
      if (!['succeeded', 'failed'].includes(job.status)) throw new Error(`job is ${job.status}`)
      return job
    },
    { timeout: 20_000, interval: 20 },
  )
