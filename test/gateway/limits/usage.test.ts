import { runDurableObjectAlarm } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { beforeEach, describe, it, vi, type ExpectStatic } from 'vitest'
import { insertUsageMinutes } from '../../../src/db/usage.ts'
import { recordUsage } from '../../../src/limits/record-usage.ts'
import { clientOf, makeProject, MODEL, type Client } from '../harness.ts'
import { RunnerDouble } from '../runner-double.ts'

let client: Client
let projectId: string
beforeEach(async () => {
  new RunnerDouble().install()
  const made = await makeProject({ organizationId: `org-${crypto.randomUUID()}` })
  projectId = made.projectId
  client = clientOf(made.key)
})

const object = () => env.LIMITS.get(env.LIMITS.idFromName(projectId))
const startSeconds = Math.floor(Date.now() / 1000)
type Result = { num_model_requests: number; input_tokens: number; output_tokens: number }

async function read(): Promise<Result[]> {
  const path = `/v1/organization/usage/completions?start_time=${startSeconds}&bucket_width=1d`
  const page = await (
    await client.call('GET', `${path}&group_by=api_key_id`)
  ).json<{ data: { results: Result[] }[] }>()
  return page.data.flatMap(({ results }) => results)
}
const expectRequests = (expect: ExpectStatic, numRequests: number) =>
  vi.waitFor(async () => {
    const results = await read()
    expect(results).toHaveLength(1)
    expect(results[0]).toMatchObject({
      num_model_requests: numRequests,
      input_tokens: 7 * numRequests,
      output_tokens: 2 * numRequests,
    })
  })
const ask = async (count: number) => {
  for (let i = 0; i < count; i++) await (await client.chat({})).text()
}
const rolledUp = async () => {
  const sql = 'SELECT sum(num_requests) AS count FROM usage_minutes WHERE project_id = ?'
  return env.DB.prepare(sql).bind(projectId).first('count')
}

describe('usage', () => {
  it('is told at once, and is the same when it is rolled up', async ({ expect }) => {
    await ask(3)
    await expectRequests(expect, 3)
    expect(await rolledUp()).toBeNull()
    expect(await runDurableObjectAlarm(object())).toBe(true)
    expect(await rolledUp()).toBe(3)
    expect(await object().openUsage()).toEqual([])
    await expectRequests(expect, 3)
    await ask(2)
    await expectRequests(expect, 5)
  })

  it('counts once what a crash left in the object after it was rolled up', async ({ expect }) => {
    await ask(2)
    await expectRequests(expect, 2)
    // As after a crash between the write to D1 and the end of the alarm.
    await insertUsageMinutes(env.DB, projectId, await object().openUsage())
    await expectRequests(expect, 2)
    await runDurableObjectAlarm(object())
    expect(await object().openUsage()).toEqual([])
    await expectRequests(expect, 2)
    expect(await rolledUp()).toBe(2)
  })

  it('stays in the object while D1 fails', async ({ expect }) => {
    await ask(1)
    await expectRequests(expect, 1)
    await env.DB.prepare('ALTER TABLE usage_minutes RENAME TO away').run()
    try {
      await runDurableObjectAlarm(object())
      expect(await object().openUsage()).toHaveLength(1)
    } finally {
      await env.DB.prepare('ALTER TABLE away RENAME TO usage_minutes').run()
    }
    await ask(1)
    await expectRequests(expect, 2)
    // The failed alarm set the next.
    expect(await runDurableObjectAlarm(object())).toBe(true)
    await expectRequests(expect, 2)
    expect(await rolledUp()).toBe(2)
  })

  it('of a request that is told twice counts once', async ({ expect }) => {
    const row = {
      requestId: 'req_1',
      projectId,
      createdAtMs: Date.now(),
      route: 'chat.completions',
      model: MODEL,
      runnerId: 'r',
      promptTokens: 7,
      completionTokens: 2,
    }
    await Promise.all([recordUsage(env, row), recordUsage(env, row)])
    expect(await object().openUsage()).toMatchObject([{ numRequests: 1, promptTokens: 7 }])
  })

  it('includes the rows that were written before', async ({ expect }) => {
    await env.DB.prepare(
      'INSERT INTO usage (request_id, project_id, key_id, created_at_ms, route, model, runner_id, ' +
        'prompt_tokens, completion_tokens) ' +
        "SELECT 'req_old', project_id, id, ?, 'compare', 'm', 'r', 7, 2 FROM keys WHERE project_id = ?",
    )
      .bind(Date.now(), projectId)
      .run()
    await ask(1)
    await expectRequests(expect, 2)
  })
})
