/** Attacks by another user of this machine, or a web page, on everything that `npm start` opens. */
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { listenersOf, type Listeners } from '../fixtures/sockets.ts'
import { isRunning, startStack, until, type Stack } from '../fixtures/stack.ts'
import { asStranger, isOtherUser, type StrangersCall } from '../fixtures/stranger.ts'

const SECRET_TEXT = 'only-for-the-owner'
const RESTART_TIMEOUT_MS = 30_000

/** A folder that another user may read, so that file modes do not refuse the attacks. */
let parent = ''
let stack: Stack
let listeners: Listeners
beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), 'arcana-doors-'))
  await chmod(parent, 0o755)
  const home = join(parent, 'home')
  // The modes that an earlier version left.
  await mkdir(join(home, 'state', 'old'), { recursive: true })
  await writeFile(join(home, 'state', 'old', 'blob'), 'x')
  await writeFile(join(parent, 'secret.txt'), SECRET_TEXT, { mode: 0o600 })
  await mkdir(join(parent, 'linked'))
  await chmod(join(parent, 'linked'), 0o755)
  for (const path of ['', 'state', 'state/old']) await chmod(join(home, path), 0o755)
  await chmod(join(home, 'state', 'old', 'blob'), 0o644)
  await symlink(join(parent, 'linked'), join(home, 'link'))
  stack = await startStack({ home })
  const { supervisor } = await stack.pids()
  listeners = await listenersOf(supervisor)
})
afterAll(async () => {
  await stack.stop()
  await rm(parent, { recursive: true, force: true })
})

/** Every listener of the process tree, with its address. */
const targets = (): StrangersCall['target'][] => [
  ...listeners.ports.map((port) => ({ host: '127.0.0.1', port })),
  ...listeners.paths.map((socketPath) => ({ socketPath })),
]

const answers = async (): Promise<boolean> => {
  const headers = { authorization: `Bearer ${stack.apiKey}` }
  const response = await fetch(`${stack.baseUrl}/models`, { headers }).catch(() => null)
  await response?.arrayBuffer()
  return response?.status === 200
}

describe('what npm start listens on', () => {
  it('is the gateway’s port, the runner’s, and sockets that only their owner reaches', ({
    expect,
  }) => {
    expect(listeners.ports).toHaveLength(2)
    expect(listeners.ports).toContain(stack.port)
    const names = listeners.paths.map((path) => path.slice(path.lastIndexOf('/') + 1))
    expect(names).toEqual(['entry', 'gateway:0', 'loopback', 'setup:0'])
  })

  it('keeps its sockets in a folder that others may not enter', async ({ expect }) => {
    for (const path of listeners.paths) {
      const folder = await stat(path.slice(0, path.lastIndexOf('/')))
      expect(folder.mode & 0o777).toBe(0o700)
    }
  })

  it('answers nobody without a secret, foreign Host and Origin or not', async ({ expect }) => {
    const headers: Record<string, string>[] = [
      {},
      { host: 'evil.example', origin: 'http://evil.example' },
      { authorization: 'Bearer sk-made-up', origin: 'null' },
    ]
    const paths = ['/v1/models', '/v1/status', '/metrics', '/v1/files', '/json/list', '/core/log']
    const calls = targets().flatMap((target) =>
      headers.flatMap((set) => paths.map((path) => ({ target, path, headers: set }))),
    )
    for (const [at, { status, text }] of (await asStranger(calls)).entries()) {
      const call = calls[at]!
      const isPort = 'port' in call.target
      if (!isPort && !isOtherUser) continue
      const seen = `${JSON.stringify(call)}: ${status} ${text}`
      if (isPort) expect([401, 404], seen).toContain(status)
      else expect(text, seen).toBe('EACCES')
      expect(text, seen).not.toContain(stack.apiKey)
    }
  })
})

describe('the attacks on Miniflare’s own server', () => {
  it('write no file', async ({ expect }) => {
    const name = 'written-by-a-stranger'
    const path = `/core/store-temp-file?extension=x/../../../../../../../../../..${parent}/${name}`
    const calls = targets().map((target) => ({
      target,
      method: 'POST',
      path,
      headers: { host: 'evil.example', 'mf-log-level': '3' },
      body: 'written',
    }))
    for (const { status } of await asStranger(calls)) expect([0, 401, 404]).toContain(status)
    expect(await readdir(parent)).not.toContain(name)
  })

  it('read no file', async ({ expect }) => {
    const body = JSON.stringify({
      message: 'm',
      name: 'Error',
      stack: `Error: m\n    at f (${join(parent, 'secret.txt')}:1:1)`,
    })
    const headers = { accept: 'text/html', 'content-type': 'application/json' }
    const calls = targets().map((target) => ({
      target,
      method: 'POST',
      path: '/core/error',
      headers,
      body,
    }))
    for (const { status, text } of await asStranger(calls)) {
      expect([0, 401, 404]).toContain(status)
      expect(text).not.toContain(SECRET_TEXT)
    }
  })

  it('do not end the gateway, list its objects or start a browser', async ({ expect }) => {
    const before = await stack.pids()
    const calls = targets().flatMap((target) => [
      { target, path: '/', headers: { 'mf-custom-node-service': 'loopback:x' } },
      { target, path: '/', headers: { 'mf-custom-fetch-service': 'loopback:x' } },
      { target, path: '/core/do-storage/arcana-gateway-JobObject' },
      { target, path: '/browser/launch' },
      { target, path: '/', headers: { connection: 'upgrade', upgrade: 'websocket' } },
    ])
    for (const { text } of await asStranger(calls)) expect(text).not.toContain('sqlite')
    expect(await stack.pids()).toEqual(before)
    expect(await isRunning(before.gateway)).toBe(true)
    expect(await answers()).toBe(true)
  })
})

describe('ARCANA_HOME', () => {
  it('gets its modes corrected at a start, which says so in one line', ({ expect }) => {
    const lines = stack.stderr().split('\n')
    expect(lines.filter((line) => /other users .* could read \d+ files/.test(line))).toHaveLength(1)
  })

  it('and everything made in it is only for its owner; links are untouched', async ({ expect }) => {
    const open: string[] = []
    let numSeen = 0
    const look = async (path: string): Promise<void> => {
      const entry = await lstat(path)
      if (entry.isSymbolicLink()) return
      numSeen += 1
      if ((entry.mode & 0o077) !== 0) open.push(`${path} ${(entry.mode & 0o777).toString(8)}`)
      if (entry.isDirectory()) {
        for (const name of await readdir(path)) await look(join(path, name))
      }
    }
    await fetch(`${stack.baseUrl}/files`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.apiKey}` },
      body: trainingFile(),
    })
    await look(stack.home)
    expect(open).toEqual([])
    expect(numSeen).toBeGreaterThan(10)
    expect((await stat(join(parent, 'linked'))).mode & 0o777).toBe(0o755)
  })
})

describe('an uncaught error in the gateway’s host', () => {
  it('is logged with its cause, and the host comes back', async ({ expect }) => {
    const home = join(parent, 'throwing')
    const fault = new URL('../fixtures/throw-on-signal.ts', import.meta.url).href
    const other = await startStack({ home, env: { NODE_OPTIONS: `--import=${fault}` } })
    try {
      const before = await other.pids()
      process.kill(before.gateway, 'SIGUSR2')
      await until(
        'a new host',
        async () => {
          const now = await other.pids().catch(() => before)
          return now.gateway !== before.gateway && (now.gateway as number | null) !== null
        },
        RESTART_TIMEOUT_MS,
      )
      await until('it answers', async () => (await healthOf(other)) === 200, RESTART_TIMEOUT_MS)
      expect(other.stderr()).toContain('gateway: thrown on purpose; because: the cause of it')
    } finally {
      await other.stop()
    }
  })
})

async function healthOf({ port }: Stack): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null)
  await response?.arrayBuffer()
  return response?.status ?? 0
}

function trainingFile(): FormData {
  const rows = Array.from({ length: 4 }, (_, at) => ({ input: `text ${at}`, label: `l${at % 2}` }))
  const form = new FormData()
  form.set('purpose', 'fine-tune')
  form.set('file', new Blob([rows.map((row) => JSON.stringify(row)).join('\n')]), 'rows.jsonl')
  return form
}
