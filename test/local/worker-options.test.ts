import { fileURLToPath } from 'node:url'
import { describe, it } from 'vitest'
import { unstable_getMiniflareWorkerOptions } from 'wrangler'
import { bundleWorker, WORKER } from '../../src/local/worker-options.ts'

const CONFIG = fileURLToPath(new URL('../../wrangler.toml', import.meta.url))

describe('the local Worker', () => {
  it('has the bindings and dates that wrangler.toml deploys', ({ expect }) => {
    const { workerOptions } = unstable_getMiniflareWorkerOptions(CONFIG)
    const ids = (entries: unknown) =>
      Object.entries(entries as Record<string, { id: string }>).map(([name, { id }]) => [name, id])
    const local = {
      compatibilityDate: WORKER.compatibilityDate,
      compatibilityFlags: WORKER.compatibilityFlags,
      d1: Object.entries(WORKER.d1Databases),
      r2: Object.entries(WORKER.r2Buckets),
      durableObjects: Object.entries(WORKER.durableObjects).map(
        ([name, { className, useSQLite }]) => [name, className, useSQLite],
      ),
    }
    expect(local).toEqual({
      compatibilityDate: workerOptions.compatibilityDate,
      compatibilityFlags: workerOptions.compatibilityFlags,
      d1: ids(workerOptions.d1Databases),
      r2: ids(workerOptions.r2Buckets),
      durableObjects: Object.entries(
        workerOptions.durableObjects as Record<string, { className: string; useSQLite: boolean }>,
      ).map(([name, { className, useSQLite }]) => [name, className, useSQLite]),
    })
  })

  it('bundles into one module with the Worker’s exports', async ({ expect }) => {
    const script = await bundleWorker()
    const exported = ['BatchObject', 'JobObject', 'LimitsObject', 'LineAnswerer']
    const list = exported.map((name) => `  ${name},\n`).join('')
    expect(script).toMatch(new RegExp(`export \\{\\n${list}  \\w+ as default\\n\\}`))
    // Nothing of the runner's side is in it.
    expect(script).not.toContain('onnxruntime')
  })
})
