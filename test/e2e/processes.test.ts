/** `npm start` leaves no process behind, whichever of its processes is killed and how. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'vitest'
import { startRunnerProcess } from '../fixtures/runner-process.ts'
import {
  freePort,
  isPortFree,
  isRunning,
  startStack,
  until,
  type Stack,
  type StackPids,
} from '../fixtures/stack.ts'

/** The longest that a process may outlive its parent. */
const END_TIMEOUT_MS = 8_000
/** A killed child answers again within this time. */
const RESTART_TIMEOUT_MS = 30_000

let home = ''
let stack: Stack | null = null
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'arcana-e2e-'))
})
afterEach(async () => {
  await stack?.stop()
  stack = null
  await rm(home, { recursive: true, force: true })
})

async function start(options: Parameters<typeof startStack>[0] = {}): Promise<Stack> {
  stack = await startStack({ home, ...options })
  return stack
}

async function nothingLeft(pids: StackPids, port: number): Promise<void> {
  for (const [name, pid] of Object.entries(pids)) {
    await until(`the ${name} ends`, async () => !(await isRunning(pid as number)), END_TIMEOUT_MS)
  }
  await until('the port is free', () => isPortFree(port), END_TIMEOUT_MS)
}

const answers = async ({ baseUrl, apiKey }: Stack): Promise<number> => {
  const headers = { authorization: `Bearer ${apiKey}` }
  const response = await fetch(`${baseUrl}/models`, { headers }).catch(() => null)
  await response?.arrayBuffer()
  return response?.status ?? 0
}

describe('a start', () => {
  it('prints one line, makes an owner-only key, and answers with it alone', async ({ expect }) => {
    const running = await start()
    expect(running.stdout()).toBe(
      `arcana ready: http://127.0.0.1:${running.port}/v1 (key in ${join(home, 'key')})\n`,
    )
    expect((await stat(join(home, 'key'))).mode & 0o777).toBe(0o600)
    expect(await answers(running)).toBe(200)
    expect(await answers({ ...running, apiKey: 'sk-wrong-key' })).toBe(401)
  })

  it('keeps its key and is ready within 10 s when started again', async ({ expect }) => {
    const first = await start()
    await first.stop()
    const second = await start()
    expect(second.apiKey).toBe(first.apiKey)
    expect(await answers(second)).toBe(200)
    expect(second.readyMs).toBeLessThan(10_000)
  })

  it('takes the key of ARCANA_API_KEY and writes none', async ({ expect }) => {
    const running = await start({ env: { ARCANA_API_KEY: 'sk-chosen-by-me' } })
    expect(running.readyLine).toContain('(key in ARCANA_API_KEY)')
    expect(await answers(running)).toBe(200)
    await expect(stat(join(home, 'key'))).rejects.toThrow(/ENOENT/)
  })

  it('refuses a taken port in one clear line', async ({ expect }) => {
    const port = await freePort()
    const other = createServer().listen(port, '127.0.0.1')
    await once(other, 'listening')
    try {
      await expect(start({ port })).rejects.toThrow(
        new RegExp(`ended with 1 [^]*arcana: port ${port} is taken[^]*set PORT`),
      )
    } finally {
      other.close()
    }
  })

  it('refuses a home that another start uses, and an invalid PORT', async ({ expect }) => {
    const running = await start()
    await expect(startStack({ home })).rejects.toThrow(/another `npm start` is using/)
    expect(await answers(running)).toBe(200)
    await expect(startStack({ home, env: { PORT: 'http' } })).rejects.toThrow(/PORT must be/)
  })
})

describe('an end', () => {
  it.for(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGKILL'] as const)(
    'by %s to the supervisor leaves no process and no taken port',
    async (signal, { expect }) => {
      const running = await start()
      const pids = await running.pids()
      const ended = once(running.supervisor, 'exit')
      running.supervisor.kill(signal)
      const [code] = (await ended) as [number | null]
      expect(code).toBe(signal === 'SIGKILL' ? null : 0)
      await nothingLeft(pids, running.port)
    },
  )

  it('by Ctrl-C in a terminal, which goes to npm and supervisor alike', async ({ expect }) => {
    const running = await start({ command: ['npm', 'start'], detached: true })
    const pids = await running.pids()
    process.kill(-running.supervisor.pid!, 'SIGINT')
    await nothingLeft(pids, running.port)
    expect(running.stderr()).not.toMatch(/starting it again|Error/)
  })

  it.for(['SIGTERM', 'SIGKILL'] as const)(
    'by %s to npm leaves no process and no taken port',
    async (signal, { expect }) => {
      const running = await start({ command: ['npm', 'start'] })
      const pids = await running.pids()
      expect(pids.supervisor).not.toBe(running.supervisor.pid)
      running.supervisor.kill(signal)
      await nothingLeft(pids, running.port)
    },
  )

  it('by SIGKILL to all its Node processes at once leaves no workerd', async () => {
    const running = await start()
    const pids = await running.pids()
    for (const pid of [pids.supervisor, pids.gateway, pids.runner]) process.kill(pid, 'SIGKILL')
    await nothingLeft(pids, running.port)
  })

  it('ends the runner even if a native library hangs at its exit', async ({ expect }) => {
    const hanging = new URL('../fixtures/hanging-exit.ts', import.meta.url).href
    const env = { NODE_OPTIONS: `--import=${hanging}`, ARCANA_RUNNER_ID: 'hanging' }
    const runner = await startRunnerProcess(env)
    const { pid, stdin } = runner.process
    try {
      stdin!.end()
      await until('the runner ends', async () => !(await isRunning(pid!)), END_TIMEOUT_MS)
    } finally {
      runner.process.kill('SIGKILL')
    }
    expect(runner.stderr()).toBe('')
  })

  it('by SIGKILL lets the next start use the same home and port at once', async ({ expect }) => {
    const first = await start()
    first.supervisor.kill('SIGKILL')
    const second = await start({ port: first.port })
    expect(second.apiKey).toBe(first.apiKey)
    expect(await answers(second)).toBe(200)
  })
})

describe('a child killed by SIGKILL', () => {
  it.for(['gateway', 'workerd', 'runner'] as const)(
    'comes back, and nothing is left in the end: %s',
    async (name, { expect }) => {
      const running = await start()
      const before = await running.pids()
      process.kill(before[name], 'SIGKILL')
      await until(
        `a new ${name}`,
        async () => (await pidOf(running, name)) !== before[name],
        RESTART_TIMEOUT_MS,
      )
      await until('it answers', async () => (await answers(running)) === 200, RESTART_TIMEOUT_MS)
      expect(await isRunning(before.supervisor)).toBe(true)
      if (name === 'gateway') {
        await until('the old workerd ends', async () => !(await isRunning(before.workerd)), 5_000)
      }
      const after = await running.pids()
      await running.stop()
      await nothingLeft(after, running.port)
    },
  )
})

async function pidOf(running: Stack, name: keyof StackPids): Promise<number> {
  const pid = await running.pids().then(
    (pids) => pids[name] as number | null,
    () => null,
  )
  return pid ?? 0
}

describe('the workerd wrapper', () => {
  it('ends its process with its parent even where setpriv is missing', async ({ expect }) => {
    // The PATH has only the wrapper's other tools, and a sleeping stand-in for workerd.
    const bin = join(home, 'bin')
    spawnSync('mkdir', [bin])
    spawnSync('ln', ['-s', '/bin/sleep', '/bin/sh', bin])
    await writeFile(join(home, 'binary'), '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 })
    const wrapper = new URL('../../src/local/workerd.sh', import.meta.url).pathname
    const env = {
      PATH: bin,
      ARCANA_WORKERD_BINARY: join(home, 'binary'),
      ARCANA_WORKERD_PID_FILE: join(home, 'pid'),
    }
    // The parent: a shell that waits for the wrapper.
    const parent = spawn('/bin/sh', ['-c', `/bin/sh ${wrapper} & wait`], { env, stdio: 'ignore' })
    let pid = 0
    await until(
      'the wrapper runs',
      async () => {
        pid = Number(await readFile(join(home, 'pid'), 'utf8').catch(() => '0'))
        return pid > 0 && (await isRunning(pid))
      },
      5_000,
    )
    parent.kill('SIGKILL')
    await until('it ends', async () => !(await isRunning(pid)), 5_000)
    expect(pid).toBeGreaterThan(0)
  })
})
