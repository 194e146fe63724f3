import { vi } from 'vitest'
import { runner } from './fresh-project.ts'

/** Holds the runner's answer to the `at`th call of a path, counted from now on. */
export function holdCall(path: string, at: number) {
  let numCalls = 0
  const { promise: held, resolve } = Promise.withResolvers<null>()
  runner.intercept = (request) => {
    if (!request.url.endsWith(path)) return null
    numCalls += 1
    return numCalls === at ? held : null
  }
  return {
    countCalls: () => numCalls,
    reached: () =>
      vi.waitFor(
        () => {
          if (numCalls < at) throw new Error(`${numCalls} of ${at} calls`)
        },
        { timeout: 20_000 },
      ),
    release: () => {
      resolve(null)
    },
  }
}
