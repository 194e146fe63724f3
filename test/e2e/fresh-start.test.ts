/** A new user's first steps: start with an empty home, run the demo, stop, start again. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { Api, newsSplit } from '../fixtures/api.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'

const FIRST_START_LIMIT_MS = 180_000
const LATER_START_LIMIT_MS = 10_000
const DEMO_TIMEOUT_MS = 280_000
const DEMO = fileURLToPath(new URL('../../src/cli/demo/main.ts', import.meta.url))

let home = ''
let stack: Stack
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'arcana-fresh-'))
})
afterAll(async () => {
  await stack.stop()
  await rm(home, { recursive: true, force: true })
})

// Without the shared cache: the start fetches the model and builds its graph, as on a new machine.
const start = (): Promise<Stack> => startStack({ home, env: { ARCANA_MODEL_CACHE: undefined } })

describe('a machine that has never run Arcana', () => {
  let fileId = ''
  let apiKey = ''

  it('is ready within three minutes, including the model’s download and the graph’s build', async ({
    expect,
  }) => {
    stack = await start()
    apiKey = stack.apiKey
    expect(stack.readyMs).toBeLessThan(FIRST_START_LIMIT_MS)
    expect(stack.stderr()).toContain('fetching smollm2-135m-instruct')
    expect(stack.stdout().trim().split('\n')).toHaveLength(1)
    expect((await readdir(join(home, 'models'))).sort()).toEqual([
      'SmolLM2-135M-Instruct.Q4_1.gguf',
      'builds',
    ])
  })

  it('runs the demo, whose task answers better than the base model', async ({ expect }) => {
    const demo = spawn(process.execPath, [DEMO], {
      env: {
        ...process.env,
        PORT: String(stack.port),
        ARCANA_HOME: home,
        ARCANA_API_KEY: undefined,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: DEMO_TIMEOUT_MS,
    })
    let output = ''
    demo.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
    const [code] = (await once(demo, 'exit')) as [number | null]
    expect(code, output).toBe(0)
    const accuracyOf = (name: string): number =>
      Number(new RegExp(`^ {2}${name} +(\\d\\.\\d+)`, 'm').exec(output)?.[1])
    expect(output).toMatch(/learning █{30} 33\/33/)
    expect(output).toMatch(/proof of the last answer: news-demo@1 = adapter [0-9a-f]{12}/)
    expect(output).toMatch(
      /(proven|promising|bias_only): .* \d+ of 20 examples right that it did not learn from, and the base model \d+ \(/,
    )
    expect(accuracyOf('base, calibrated')).toBeGreaterThan(0)
    expect(accuracyOf('x-task: news-demo')).toBeGreaterThan(accuracyOf('base') + 0.2)
  })

  it('keeps files, tasks and key over a stop, and starts within ten seconds', async ({
    expect,
  }) => {
    const { training } = await newsSplit()
    fileId = (await new Api(stack).upload(training)).id
    await stack.stop()
    stack = await start()
    expect(stack.readyMs).toBeLessThan(LATER_START_LIMIT_MS)
    expect(stack.apiKey).toBe(apiKey)
    expect(stack.stderr()).not.toContain('fetching')
    const api = new Api(stack)
    expect((await api.files()).data.map(({ id }) => id)).toContain(fileId)
    const { arcana } = await api.ask('The striker scored twice.', 'news-demo')
    expect(arcana).toMatchObject({ task: 'news-demo', version: 1 })
  })
})
