import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { findJob, listJobs } from '../db/jobs.ts'
import type { Bindings } from '../env.ts'
import { readJsonObject } from '../http/read-json.ts'
import { createJob } from '../jobs/create-job.ts'
import { jobStub } from '../jobs/job-stub.ts'
import { ApiError, invalidRequest, notFound } from '../protocol/openai/error.ts'
import { toPage } from '../protocol/openai/files.ts'
import {
  checkpointsQuerySchema,
  createJobSchema,
  eventsQuerySchema,
  jobsQuerySchema,
  publishJobSchema,
  readMetadataFilter,
} from '../protocol/openai/fine-tuning.ts'
import { parseWire } from '../protocol/parse.ts'

export const fineTuningJobs = new Hono<AppEnv>()
  .post('/', async (c) => {
    const request = parseWire(createJobSchema, await readJsonObject(c.req.raw))
    return c.json(await createJob(c.env, c.get('projectId'), request))
  })
  .get('/', async (c) => {
    const page = parseWire(jobsQuerySchema, c.req.query())
    const metadata = readMetadataFilter(c.req.query())
    const jobs = await listJobs(c.env.DB, c.get('projectId'), page, metadata)
    if (jobs === null) throw invalidRequest('No such job to list after.', 'after')
    return c.json(toPage(jobs, page.limit))
  })
  .get('/:id', async (c) => {
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const found = await stub.read()
    if (found === null) throw noJob(c.req.param('id'))
    const { job, report } = found
    return c.json({ ...job, arcana: { ...job.arcana, report } })
  })
  .get('/:id/events', async (c) => {
    const page = parseWire(eventsQuerySchema, c.req.query())
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const events = await stub.listEvents(page.limit, page.after)
    if (events === null) throw invalidRequest('No such event to list after.', 'after')
    return c.json(toPage(events, page.limit))
  })
  .get('/:id/checkpoints', async (c) => {
    const page = parseWire(checkpointsQuerySchema, c.req.query())
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const all = await stub.listCheckpoints()
    if (all === null) throw noJob(c.req.param('id'))
    const from = page.after === undefined ? 0 : all.findIndex(({ id }) => id === page.after) + 1
    if (page.after !== undefined && from === 0) {
      throw invalidRequest('No such checkpoint to list after.', 'after')
    }
    const list = toPage(all.slice(from), page.limit)
    return c.json({
      ...list,
      first_id: list.data[0]?.id ?? null,
      last_id: list.data.at(-1)?.id ?? null,
    })
  })
  .post('/:id/cancel', async (c) => {
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    const cancelled = await stub.cancel()
    if (cancelled === null) throw noJob(c.req.param('id'))
    if (cancelled.outcome === 'too_late') {
      const { id, status } = cancelled.job
      const state = status === 'running' ? 'being published' : status
      throw new ApiError(400, `The job ${id} cannot be cancelled: it is ${state}.`, {
        code: 'job_finished',
      })
    }
    return c.json(cancelled.job)
  })
  .post('/:id/publish', async (c) => {
    const stub = await requireJob(c.env, c.get('projectId'), c.req.param('id'))
    parseWire(publishJobSchema, await readJsonObject(c.req.raw))
    const published = await stub.forcePublish()
    if (published === null) throw noJob(c.req.param('id'))
    if (published.done) return c.json(published.job)
    const { id, status, arcana } = published.job
    const promote =
      arcana.version === null
        ? ''
        : ` Its version ${arcana.version} is published: POST /v1/tasks/${arcana.task}/promote makes it live.`
    throw new ApiError(400, `The job ${id} keeps no version back: it is ${status}.${promote}`, {
      code: 'nothing_to_publish',
    })
  })

async function requireJob(env: Bindings, projectId: string, id: string) {
  const row = await findJob(env.DB, projectId, id)
  if (row === null) throw noJob(id)
  return jobStub(env, projectId, id)
}

const noJob = (id: string) => notFound(`No such fine-tuning job: ${id}`, 'id', 'job_not_found')
