import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'
import { WaitClock } from '../dispatch/wait-clock.ts'

/**
 * Says in `x-arcana-gateway-ms` how long the gateway itself took until the answer began: all the time
 * until then less the time for which it waited for runners.
 */
export const gatewayTime = () =>
  createMiddleware<AppEnv>(async (c, next) => {
    const startedAtMs = Date.now()
    const waits = new WaitClock()
    c.set('waits', waits)
    await next()
    const ownMs = Date.now() - startedAtMs - waits.waitedMs
    c.header('x-arcana-gateway-ms', String(Math.max(0, ownMs)))
  })
