import type { Caller } from './db/keys.ts'
import type { WaitClock } from './dispatch/wait-clock.ts'
import type { Bindings } from './env.ts'
import type { Admission } from './limits/admission.ts'

/** What Hono carries through a request. */
export type AppEnv = {
  Bindings: Bindings
  Variables: {
    requestId: string
    waits: WaitClock
    /** Set by bearer-auth. */
    caller: Caller
    /** The caller's; every row and blob read after it belongs to this project. */
    projectId: string
    /** Set by routes that ask models. */
    admission: Admission | undefined
  }
}
