/** What an API key may do. */
export const KEY_SCOPES = ['inference', 'inference:priority', 'tasks:write', 'admin'] as const

/**
 * - `inference`: ask models and tasks, and list them.
 * - `inference:priority`: `service_tier: "priority"`, which goes before other requests.
 * - `tasks:write`: files, jobs, and everything that changes a task or reads its adapter.
 * - `admin`: the organisation's projects, keys and usage.
 */
export type KeyScope = (typeof KEY_SCOPES)[number]
