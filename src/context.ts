import type { Bindings } from './env.ts'

/** The values that Hono carries through a request. */
export type AppEnv = {
  Bindings: Bindings
  Variables: {
    requestId: string
    /** Set by `bearerAuth`. Every row and blob that the request reads belongs to this project. */
    projectId: string
  }
}
