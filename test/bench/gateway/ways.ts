/**
 * The gateways under measurement: Arcana's, Portkey's (npm) and LiteLLM's proxy (PyPI), each in
 * front of the same stub. The peers are installed here, under .arcana/bench, in these versions;
 * neither is a dependency of the project. Bifrost is not among them: its npm package holds no
 * binary and downloads one from elsewhere.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { startGatewayProcess } from '../../fixtures/gateway-process.ts'
import { freePort } from '../../fixtures/stack.ts'
import { installOnce } from '../peers/install-once.ts'

const run = promisify(execFile)
const PORTKEY = '1.15.2'
/** With later ones, Portkey's gateway answers every stream 500, as it writes to headers that are immutable. */
const PORTKEY_SERVER = '1.13.8'
const LITELLM = '1.105.0'
const LITELLM_KEY = 'sk-a-key-for-the-bench'
const INSTALL_TIMEOUT_MS = 550_000
const READY_TIMEOUT_MS = 120_000
const READY_POLL_MS = 100

/** A server that answers `POST /chat/completions` under its base URL. */
export type Way = {
  readonly name: string
  readonly baseUrl: string
  readonly headers: Readonly<Record<string, string>>
  readonly stop: () => Promise<void>
}

export type Stub = { readonly port: number; readonly model: string }

export async function startArcana({ port }: Stub): Promise<Way> {
  const gateway = await startGatewayProcess([`http://127.0.0.1:${port}`], 'a-secret-for-the-stub')
  const headers = { authorization: `Bearer ${gateway.apiKey}` }
  return { name: 'Arcana', baseUrl: gateway.baseUrl, headers, stop: gateway.stop }
}

/** In production mode, which leaves out its console. */
export async function startPortkey(stub: Stub): Promise<Way> {
  const folder = await installOnce(`portkey-${PORTKEY}`, async (into) => {
    await mkdir(into, { recursive: true })
    const manifest = {
      private: true,
      dependencies: { '@portkey-ai/gateway': PORTKEY },
      overrides: { '@hono/node-server': PORTKEY_SERVER },
    }
    await writeFile(path.join(into, 'package.json'), JSON.stringify(manifest))
    const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund']
    await run('npm', args, { cwd: into, timeout: INSTALL_TIMEOUT_MS })
  })
  const port = await freePort()
  const entry = path.join(folder, 'node_modules/@portkey-ai/gateway/build/start-server.js')
  const env = { ...process.env, NODE_ENV: 'production' }
  const child = spawn(process.execPath, [entry, `--port=${port}`, '--headless'], {
    env,
    stdio: 'ignore',
  })
  const headers = {
    authorization: 'Bearer none',
    'x-portkey-provider': 'openai',
    'x-portkey-custom-host': `http://127.0.0.1:${stub.port}/v1`,
  }
  const way = { name: `Portkey ${PORTKEY}`, baseUrl: `http://127.0.0.1:${port}/v1`, headers }
  return whenReady(child, way, stub)
}

/** One worker process, as by default. Without a database and a cache it keeps no records. */
export async function startLiteLlm(stub: Stub): Promise<Way> {
  const folder = await installOnce(`litellm-${LITELLM}`, async (into) => {
    await run('python3', ['-m', 'venv', into], { timeout: INSTALL_TIMEOUT_MS })
    const args = ['-m', 'pip', 'install', '--quiet', `litellm[proxy]==${LITELLM}`]
    await run(path.join(into, 'bin/python'), args, { timeout: INSTALL_TIMEOUT_MS })
  })
  const params = {
    model: `openai/${stub.model}`,
    api_base: `http://127.0.0.1:${stub.port}/v1`,
    api_key: 'none',
  }
  const config = path.join(folder, 'config.json')
  const models = [{ model_name: stub.model, litellm_params: params }]
  // JSON is YAML.
  await writeFile(config, JSON.stringify({ model_list: models }))
  const port = await freePort()
  const args = ['--config', config, '--host', '127.0.0.1', '--port', String(port)]
  const child = spawn(path.join(folder, 'bin/litellm'), args, {
    env: {
      ...process.env,
      PATH: `${path.join(folder, 'bin')}:${process.env['PATH'] ?? ''}`,
      LITELLM_LOCAL_MODEL_COST_MAP: 'True',
      LITELLM_LOG: 'ERROR',
      LITELLM_MASTER_KEY: LITELLM_KEY,
    },
    stdio: 'ignore',
  })
  const headers = { authorization: `Bearer ${LITELLM_KEY}` }
  const way = { name: `LiteLLM ${LITELLM}`, baseUrl: `http://127.0.0.1:${port}/v1`, headers }
  return whenReady(child, way, stub)
}

/** Waits until a chat is answered. @throws {Error} the process ended, or never answered */
async function whenReady(
  child: ChildProcess,
  way: Omit<Way, 'stop'>,
  { model }: Stub,
): Promise<Way> {
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
  const endMs = performance.now() + READY_TIMEOUT_MS
  const body = JSON.stringify({
    model,
    messages: [{ role: 'user', content: 'Hi' }],
    max_tokens: 16,
  })
  const headers = { ...way.headers, 'content-type': 'application/json' }
  let last = 'no answer'
  while (performance.now() < endMs && child.exitCode === null) {
    const answer = await fetch(`${way.baseUrl}/chat/completions`, { method: 'POST', headers, body })
      .then(async (response) => ({ ok: response.ok, text: await response.text() }))
      .catch(() => null)
    if (answer?.ok === true) return { ...way, stop }
    last = answer?.text ?? last
    await sleep(READY_POLL_MS)
  }
  await stop()
  throw new Error(`${way.name} did not become ready: ${last}`)
}
