import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, it } from 'vitest'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import { createJob, readEvents, readJob, waitFor, type Job } from '../label-jobs.ts'
import { MODEL } from '../harness.ts'

useFreshProject()

/** A stored object without its type, because another release wrote it. */
type Stored = Record<string, unknown>

/** `report.guard` as it was before there were four outcomes. */
const OLD_GUARD = {
  p_value: 0.36,
  against: 'label_frequencies',
  gain: 0.12,
  interval: [-0.1, 0.34],
  smallest_detectable_gain: 0.4,
  gains: { base: 0.9, label_frequencies: 0.12 },
  outcome: 'inconclusive',
  would_publish: null,
  answer: 'adapter',
  enforced: true,
  forced: false,
  test: 'paired one-sided sign-flip of out-of-fold log loss',
  level: 0.05,
  power: 0.8,
  folds: 4,
  trials_per_fold: 16,
}

/** Writes a finished job's spec and state as the earlier release wrote them. */
async function asOfOldRelease(job: Job, change: (state: Stored) => Stored): Promise<void> {
  const stub = env.JOBS.get(env.JOBS.idFromName(`${projectId}/${job.id}`))
  await runInDurableObject(stub, async (_, { storage }) => {
    const read = (key: string): Stored => {
      const [row] = storage.sql
        .exec<{ value: string }>('SELECT value FROM job WHERE key = ?', key)
        .toArray()
      return JSON.parse(row!.value) as Stored
    }
    const write = (key: string, value: Stored): void => {
      storage.sql.exec('UPDATE job SET value = ? WHERE key = ?', JSON.stringify(value), key)
    }
    const spec = read('spec')
    delete spec['publish']
    write('spec', spec)
    const state = read('state')
    const publication = { ...(state['publication'] as Stored) }
    delete publication['isLive']
    const report = { ...(publication['report'] as Stored), guard: OLD_GUARD }
    write('state', change({ ...state, publication: { ...publication, report } }))
    await storage.setAlarm(Date.now())
  })
  // That job has not published anything yet.
  await env.DB.batch([
    env.DB.prepare('DELETE FROM versions WHERE job_id = ?').bind(job.id),
    env.DB.prepare('DELETE FROM tasks WHERE project_id = ?').bind(projectId),
  ])
  await abortAllDurableObjects()
}

describe('a job that an older release left', () => {
  it('as inconclusive is read unchanged, and can be published', async ({ expect }) => {
    const made = await waitFor((await createJob()).id)
    const error = { code: 'inconclusive', message: 'Nothing was published.', param: null }
    await asOfOldRelease(made, (state) => ({
      ...state,
      status: 'failed',
      error,
      versionNumber: null,
      revision: (state['revision'] as number) + 1,
    }))
    const old = await readJob(made.id)
    expect(old).toMatchObject({
      status: 'failed',
      error,
      fine_tuned_model: null,
      method: { rotation: { publish: 'proven' } },
      arcana: { version: null, report: { guard: OLD_GUARD } },
    })
    expect((await readEvents(made.id)).length).toBeGreaterThan(1)

    const path = `/v1/fine_tuning/jobs/${made.id}/publish`
    expect((await client.call('POST', path, { force: true })).status).toBe(200)
    const published = await waitFor(made.id, ['succeeded'])
    expect(published).toMatchObject({
      fine_tuned_model: `${MODEL}:news`,
      arcana: { report: { guard: { ...OLD_GUARD, forced: true } } },
    })
    const task = await (await client.call('GET', '/v1/tasks/news')).json<Stored>()
    expect(task).toMatchObject({
      live_version: published.arcana.version,
      versions: [{ job: made.id, report: { guard: { outcome: 'inconclusive', forced: true } } }],
    })
    expect((await client.chat({ model: published.fine_tuned_model! })).status).toBe(200)
  })

  it('in the middle of publishing goes live, with a report that has no summary', async ({
    expect,
  }) => {
    const made = await waitFor((await createJob()).id)
    await asOfOldRelease(made, (state) => ({
      ...state,
      status: 'running',
      phase: 'publishing',
      finishedAtMs: null,
      versionNumber: null,
      revision: (state['revision'] as number) + 1,
    }))
    const published = await waitFor(made.id, ['succeeded'])
    expect(published).toMatchObject({ fine_tuned_model: `${MODEL}:news` })
    const [last] = await readEvents(made.id)
    expect(last!.message).toBe(`Published news@${published.arcana.version!}; it is live.`)
    expect((await client.chat({ model: published.fine_tuned_model! })).status).toBe(200)
    expect(runner.generateRequests.at(-1)?.arms).toHaveLength(1)
  })
})
