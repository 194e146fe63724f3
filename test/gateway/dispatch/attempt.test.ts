import { afterEach, beforeEach, describe, it, vi } from 'vitest'
import { attempt, Unserved } from '../../../src/dispatch/attempt.ts'
import { startGeneration } from '../../../src/dispatch/generate.ts'
import { RunnerCallFailure } from '../../../src/dispatch/runner-client.ts'
import { RunnerPool } from '../../../src/dispatch/runner-pool.ts'
import { baseArm } from '../../../src/tasks/compose.ts'
import { MODEL } from '../harness.ts'
import { MODEL_DIGEST, refuse, RunnerDouble } from '../runner-double.ts'

const WISH = { kind: 'compute', model: MODEL, modelDigest: null, adapters: [] } as const
/** Past the age at which a status is asked for anew. */
const LATER_MS = 600

let a: RunnerDouble
let b: RunnerDouble
let pool: RunnerPool

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] })
  a = new RunnerDouble('http://a.test')
  b = new RunnerDouble('http://b.test')
  a.install(b)
  pool = new RunnerPool([a.url, b.url], a.secret)
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const pass = (ms: number): void => {
  vi.setSystemTime(Date.now() + ms)
}

/** One answer, read to its end. @returns the runner's address, or what went wrong */
async function ask(): Promise<string> {
  const numBefore = a.callsTo('POST /v1/generate')
  const where = () => (a.callsTo('POST /v1/generate') > numBefore ? 'a' : 'b')
  try {
    const generation = await startGeneration(
      { pool, readAdapter: () => Promise.reject(new Error('no adapter is needed')) },
      {
        model: MODEL,
        modelDigest: null,
        request: {
          request_id: 'test',
          messages: [{ role: 'user', content: 'Hi' }],
          arms: [baseArm()],
          sampling: { temperature: 0, top_p: 1, stop: [] },
        },
        expected: [
          {
            arm: baseArm(),
            modelDigest: MODEL_DIGEST,
            biasDigest: null,
            layers: [],
            layersExact: true,
          },
        ],
      },
      new AbortController().signal,
    )
    for await (const event of generation.events) if (event.event === 'done') return where()
    return 'no end'
  } catch (error) {
    return `${where()}: ${error instanceof RunnerCallFailure ? error.kind : String(error)}`
  }
}

describe('a runner that answers its status and fails every generation after admission', () => {
  beforeEach(() => {
    // The other one has so much to do that requests go to `a` whenever its circuit lets them.
    const status = { ...b.status(), load: { running: 16, waiting: 16, parked: 0 } }
    vi.spyOn(b, 'status').mockReturnValue(status)
  })

  it('gets no request after the second failure but one probe a while', async ({ expect }) => {
    const die = (events: Parameters<RunnerDouble['editEvents']>[0]) =>
      [...events.slice(0, 2), 'die'] as ReturnType<RunnerDouble['editEvents']>
    a.editEvents = die
    const answers: string[] = []
    for (let i = 0; i < 8; i++) {
      // It answers its status in between.
      pass(20)
      answers.push(await ask())
    }
    expect(answers).toEqual(['a: died', 'a: died', ...Array.from({ length: 6 }, () => 'b')])
    expect(a.callsTo('GET /v1/status')).toBeGreaterThan(1)
    // The probe fails, so the circuit stays open twice as long.
    pass(LATER_MS)
    expect(await ask()).toBe('a: died')
    pass(499)
    expect(await ask()).toBe('b')
    // The next one is answered whole, and closes the circuit.
    a.editEvents = (events) => [...events]
    pass(LATER_MS)
    expect(await ask()).toBe('a')
    expect(await ask()).toBe('a')
  })

  it('keeps the calls that it answers', async ({ expect }) => {
    a.intercept = (request) =>
      request.url.endsWith('/v1/generate') ? refuse(500, 'internal', 'fatal') : null
    for (let i = 0; i < 2; i++) expect(await ask()).toMatch(/^a: ApiError/)
    expect(await ask()).toBe('b')
    const url = await attempt(pool, WISH, ({ client }) => Promise.resolve(client.url))
    expect(url).toBe(a.url)
  })
})

describe('a pool', () => {
  it('counts the generations it began until it asks for the status again', async ({ expect }) => {
    vi.spyOn(Math, 'random').mockReturnValue(0.99)
    const home = await ask()
    const others: string[] = []
    for (let i = 0; i < 6; i++) others.push(await ask())
    // Equal prompts have one home; a few of them are as many as the other runner's distance costs.
    expect(others[0]).toBe(home)
    expect(new Set(others).size).toBe(2)
    pass(LATER_MS)
    expect(await ask()).toBe(home)
  })
})

describe('an attempt', () => {
  it('tries the next runner if one is down, and fails if none is left', async ({ expect }) => {
    const call = vi.fn(async ({ client }: { client: { url: string } }) => {
      await Promise.resolve()
      if (client.url === a.url) throw new RunnerCallFailure('unreachable', 'gone')
      return client.url
    })
    expect(await attempt(pool, WISH, call)).toBe(b.url)
    expect(call).toHaveBeenCalledTimes(2)
    a.isDown = true
    b.isDown = true
    pass(LATER_MS)
    await expect(attempt(pool, WISH, call)).rejects.toThrow(Unserved)
    expect(call).toHaveBeenCalledTimes(2)
    // The runner comes back after a moment.
    b.isDown = false
    pass(LATER_MS)
    expect(await attempt(pool, WISH, call)).toBe(b.url)
  })

  it('is not repeated once the retry budget is spent', async ({ expect }) => {
    const call = vi.fn(() => Promise.reject(new RunnerCallFailure('wrong_proof', 'adapters')))
    for (let i = 0; i < 8; i++) await expect(attempt(pool, WISH, call)).rejects.toThrow('adapters')
    // Eight requests, and the five retries that few requests may have.
    expect(call).toHaveBeenCalledTimes(13)
    pass(30_000)
    await expect(attempt(pool, WISH, call)).rejects.toThrow('adapters')
    expect(call).toHaveBeenCalledTimes(15)
  })

  it('asks one runner alone for a step of a job', async ({ expect }) => {
    const call = vi.fn(() => Promise.reject(new RunnerCallFailure('died', 'in the middle')))
    await expect(attempt(pool, WISH, call, { firstOnly: true })).rejects.toThrow('in the middle')
    expect(call).toHaveBeenCalledTimes(1)
  })

  it('does not count a caller’s disconnect as the runner’s failure', async ({ expect }) => {
    const controller = new AbortController()
    const call = () => {
      controller.abort()
      return Promise.reject(new RunnerCallFailure('cancelled', 'given up'))
    }
    for (let i = 0; i < 3; i++) {
      const { signal } = controller
      await expect(attempt(pool, WISH, call, { signal })).rejects.toThrow('given up')
    }
    expect(await attempt(pool, WISH, ({ client }) => Promise.resolve(client.url))).toBe(a.url)
  })
})
