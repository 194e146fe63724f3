import { Hono } from 'hono'
import pLimit from 'p-limit'
import type { AppEnv } from '../../context.ts'
import { listUsedProjects, sumUsageByTime, type OpenUsage, type UsageSum } from '../../db/usage.ts'
import type { Bindings } from '../../env.ts'
import { readList } from '../../middleware/known-query.ts'
import {
  USAGE_BUCKETS,
  usageQuerySchema,
  type UsagePage,
  type UsageResult,
} from '../../protocol/openai/organization.ts'
import { parseWire } from '../../protocol/parse.ts'

/** Usage is in D1 a minute after its request, or later if D1 fails. */
const MAX_ROLLUP_DELAY_MS = 24 * 3600 * 1000
const MAX_OBJECTS_AT_ONCE = 20

/** What the organisation's projects were answered. */
export const organizationUsage = new Hono<AppEnv>().get('/completions', async (c) => {
  const queries = c.req.queries()
  const lists = ['project_ids', 'api_key_ids', 'models', 'group_by']
  const query = parseWire(usageQuerySchema, {
    ...c.req.query(),
    ...Object.fromEntries(lists.map((name) => [name, readList(queries, name)])),
  })
  const { seconds, defaultLimit } = USAGE_BUCKETS[query.bucket_width]
  const from = query.page ?? query.start_time
  const first = from - (from % seconds)
  const end = query.end_time ?? Math.floor(Date.now() / 1000) + 1
  const numLeft = Math.max(0, Math.ceil((end - first) / seconds))
  const numShown = Math.min(numLeft, query.limit ?? defaultLimit)
  const shownEnd = first + numShown * seconds
  const asked = {
    organizationId: c.get('caller').organizationId,
    startMs: 1000 * Math.max(first, query.start_time),
    endMs: 1000 * Math.min(shownEnd, end),
    bucketMs: 1000 * seconds,
    groupBy: query.group_by,
    projectIds: query.project_ids,
    keyIds: query.api_key_ids,
    models: query.models,
  }
  // Asked before D1, so that what is rolled up meanwhile is in both, and counts once.
  const open = await readOpenUsage(c.env, asked)
  const sums = await sumUsageByTime(c.env.DB, asked, open)
  const byStart = Map.groupBy(sums, ({ bucketStartMs }) => bucketStartMs / 1000)
  const hasMore = numShown < numLeft
  return c.json({
    object: 'page',
    data: Array.from({ length: numShown }, (_, i) => {
      const start = first + i * seconds
      return {
        object: 'bucket',
        start_time: start,
        end_time: start + seconds,
        results: (byStart.get(start) ?? []).map(toResult),
      }
    }),
    has_more: hasMore,
    next_page: hasMore ? String(shownEnd) : null,
  } satisfies UsagePage)
})

type Asked = {
  readonly organizationId: string
  readonly projectIds?: readonly string[] | undefined
}

/** Usage that is not rolled up yet, of projects that were used of late. */
async function readOpenUsage(env: Bindings, asked: Asked): Promise<readonly OpenUsage[]> {
  const ids = await listUsedProjects(env.DB, asked, Date.now() - MAX_ROLLUP_DELAY_MS)
  const all = await pLimit(MAX_OBJECTS_AT_ONCE).map(ids, async (projectId) => {
    const minutes = await env.LIMITS.get(env.LIMITS.idFromName(projectId)).openUsage()
    return minutes.map((minute) => ({ ...minute, projectId }))
  })
  return all.flat()
}

const toResult = (sum: UsageSum): UsageResult => ({
  object: 'organization.usage.completions.result',
  input_tokens: sum.promptTokens,
  input_cached_tokens: sum.cachedTokens,
  output_tokens: sum.completionTokens,
  num_model_requests: sum.numRequests,
  project_id: sum.project_id,
  api_key_id: sum.api_key_id,
  model: sum.model,
  user_id: null,
  batch: null,
})
