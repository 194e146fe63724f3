import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Comparison } from '../../protocol/arcana/compare.ts'
import type { TaskWithVersions } from '../../protocol/arcana/tasks.ts'
import type { ChatCompletion } from '../../protocol/openai/chat-completions.ts'
import type { FileObject } from '../../protocol/openai/files.ts'
import type { FineTuningJob } from '../../protocol/openai/fine-tuning.ts'

/** A reason to stop that the reader can act on; printed without a stack. */
export class DemoError extends Error {}

export interface ClientConfig {
  /** With the `/v1`. */
  readonly baseUrl: string
  readonly apiKey: string
}

/** Finds the address and the key of `npm start`, by the same variables that it reads. */
export async function readClientConfig(env: NodeJS.ProcessEnv): Promise<ClientConfig> {
  const baseUrl = env['ARCANA_BASE_URL'] || `http://127.0.0.1:${env['PORT'] || '8787'}/v1`
  const given = env['ARCANA_API_KEY']
  if (given) return { baseUrl: withoutSlash(baseUrl), apiKey: given }
  const keyPath = join(env['ARCANA_HOME'] || '.arcana', 'key')
  const apiKey = await readFile(keyPath, 'utf8').catch(() => null)
  if (apiKey === null) {
    throw new DemoError(
      `no key at ${keyPath}: run \`npm start\` in another terminal first, ` +
        'or set ARCANA_API_KEY (and ARCANA_BASE_URL) to use another Arcana',
    )
  }
  return { baseUrl: withoutSlash(baseUrl), apiKey: apiKey.trim() }
}

const withoutSlash = (url: string): string => url.replace(/\/+$/, '')

export interface ChatRequest {
  readonly model: string
  readonly messages: readonly { readonly role: string; readonly content: string }[]
  readonly max_tokens?: number
  readonly temperature?: number
}

export interface JobRequest {
  readonly model: string
  readonly training_file: string
  readonly suffix: string
  readonly seed: number
  readonly method: object
}

/** The calls of the HTTP API that the demo makes, by plain fetch. */
export class Client {
  readonly #config: ClientConfig

  constructor(config: ClientConfig) {
    this.#config = config
  }

  /** Finds the slug of the base model. */
  async baseModel(): Promise<string> {
    const { data } = await this.#json<{ data: { id: string }[] }>('/models')
    const base = data.find(({ id }) => !id.includes(':'))
    if (!base) throw new DemoError('the server lists no base model')
    return base.id
  }

  uploadFile(name: string, text: string): Promise<FileObject> {
    const form = new FormData()
    form.set('purpose', 'fine-tune')
    form.set('file', new Blob([text], { type: 'application/jsonl' }), name)
    return this.#json('/files', { method: 'POST', body: form })
  }

  createJob(request: JobRequest): Promise<FineTuningJob> {
    return this.#post('/fine_tuning/jobs', request)
  }

  job(id: string): Promise<FineTuningJob> {
    return this.#json(`/fine_tuning/jobs/${id}`)
  }

  task(name: string): Promise<TaskWithVersions> {
    return this.#json(`/tasks/${name}`)
  }

  /** @param task the value of `x-task`; null asks the base model */
  chat(request: ChatRequest, task: string | null): Promise<ChatCompletion> {
    return this.#post('/chat/completions', request, task === null ? {} : { 'x-task': task })
  }

  compare(text: string, arms: readonly string[]): Promise<Comparison> {
    return this.#post('/compare', {
      messages: [{ role: 'user', content: text }],
      arms,
      temperature: 0,
    })
  }

  #post<T>(path: string, body: object, headers: Record<string, string> = {}): Promise<T> {
    return this.#json(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })
  }

  async #json<T>(path: string, init: RequestInit = {}): Promise<T> {
    const headers = new Headers(init.headers)
    headers.set('authorization', `Bearer ${this.#config.apiKey}`)
    const url = this.#config.baseUrl + path
    const response = await fetch(url, { ...init, headers }).catch((error: unknown) => {
      throw new DemoError(
        `nothing answers at ${this.#config.baseUrl} (${reasonOf(error)}): ` +
          'run `npm start` in another terminal first',
      )
    })
    const text = await response.text()
    if (!response.ok) {
      throw new DemoError(`${init.method ?? 'GET'} ${path}: HTTP ${response.status}: ${text}`)
    }
    return JSON.parse(text) as T
  }
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  if (cause instanceof Error && 'code' in cause) return String(cause.code)
  return error instanceof Error ? error.message : String(error)
}
