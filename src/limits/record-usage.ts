import type { UsageRow } from '../db/usage.ts'
import type { Bindings } from '../env.ts'

const MAX_TRIES = 3
const RETRY_MS = 200

/**
 * Tells a project's object what a request used. This runs after the response, so a failure is only
 * logged. The object counts a request once, so it may be told again.
 */
export async function recordUsage({ LIMITS }: Bindings, row: UsageRow): Promise<void> {
  const { requestId, projectId, keyId = null, createdAtMs, route, model } = row
  const { promptTokens, cachedTokens = 0, completionTokens } = row
  const tokens = { promptTokens, cachedTokens, completionTokens }
  for (let numTries = 1; ; numTries++) {
    try {
      const entry = { requestId, keyId, createdAtMs, route, model, ...tokens }
      await LIMITS.get(LIMITS.idFromName(projectId)).addUsage(projectId, entry)
      return
    } catch (error) {
      if (numTries === MAX_TRIES) {
        const lost = { event: 'usage_lost', request_id: requestId, error: String(error) }
        console.error(JSON.stringify(lost))
        return
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * numTries))
    }
  }
}
