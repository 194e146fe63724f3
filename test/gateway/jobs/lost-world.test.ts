import { abortAllDurableObjects } from 'cloudflare:test'
import { describe, it, vi } from 'vitest'
import { client, runner, useFreshProject } from '../fresh-project.ts'
import { createJob, readEvents, readJob, trialsOf, upTo, waitFor } from '../label-jobs.ts'
import { refuse } from '../runner-double.ts'

useFreshProject()

describe('a job whose runner or object fails', () => {
  it('waits for a runner that is down, and continues', async ({ expect }) => {
    runner.isDown = true
    const { id } = await createJob()
    await vi.waitFor(
      async () => {
        expect((await readEvents(id))[0]?.message).toContain('Waiting')
      },
      { timeout: 5_000 },
    )
    expect((await readJob(id)).status).toBe('queued')
    runner.isDown = false
    expect((await waitFor(id)).status).toBe('succeeded')
  })

  it('sends the examples again to a runner that lost its datasets', async ({ expect }) => {
    let numScores = 0
    runner.intercept = (request) => {
      if (request.url.endsWith('/v1/score') && ++numScores % 3 === 0) runner.datasets.clear()
      return null
    }
    const { id } = await createJob()
    expect((await waitFor(id)).status).toBe('succeeded')
    expect(trialsOf(await readEvents(id))).toEqual(upTo(24))
    expect(runner.callsTo('PUT /v1/datasets')).toBeGreaterThan(1)
  })

  it('loses and doubles nothing when its object is killed between and within rounds', async ({
    expect,
  }) => {
    runner.intercept = async (request) => {
      if (request.url.endsWith('/v1/score')) await new Promise((done) => setTimeout(done, 30))
      return null
    }
    const uninterrupted = await createJob({ suffix: 'calm' })
    await waitFor(uninterrupted.id)
    const { id } = await createJob({ suffix: 'news' })
    for (let kill = 0; kill < 6; kill++) {
      await new Promise((done) => setTimeout(done, 40))
      await abortAllDurableObjects()
    }
    expect((await waitFor(id)).status).toBe('succeeded')
    expect(trialsOf(await readEvents(id))).toEqual(upTo(24))
    const [calm, killed] = await Promise.all(
      ['calm', 'news'].map(async (name) =>
        (await client.call('GET', `/v1/tasks/${name}`)).json<{
          versions: { adapter_digest: string }[]
        }>(),
      ),
    )
    expect(killed!.versions).toHaveLength(1)
    expect(killed!.versions[0]!.adapter_digest).toBe(calm!.versions[0]!.adapter_digest)
  })

  it('starts its trials again if the build of the model changed', async ({ expect }) => {
    runner.intercept = async (request) => {
      if (request.url.endsWith('/v1/score')) await new Promise((done) => setTimeout(done, 100))
      return null
    }
    const { id } = await createJob()
    // Counted by this job's own progress, because a job of an earlier test may score too.
    await vi.waitFor(async () => {
      if ((await readJob(id)).arcana.progress.trials_done < 8) throw new Error('not there yet')
    })
    runner.buildDigest = 'e'.repeat(64)
    const job = await waitFor(id)
    expect(job).toMatchObject({
      status: 'succeeded',
      arcana: { progress: { trials_done: 24 }, report: { build_digest: 'e'.repeat(64) } },
    })
    const events = await readEvents(id)
    expect(events.some(({ message }) => message.includes('another build'))).toBe(true)
  })

  it('fails at once if the runner refuses the examples', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.includes('/v1/datasets/')
        ? refuse(400, 'context_length_exceeded', 'unserviceable')
        : null
    const job = await waitFor((await createJob()).id)
    expect(job).toMatchObject({
      status: 'failed',
      error: { code: 'context_length_exceeded', param: 'training_file' },
    })
  })
})
