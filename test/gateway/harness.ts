import { env, exports } from 'cloudflare:workers'
import { encodeAdapter } from '../../adapters/format/encode.ts'
import { bootstrapStatements } from '../../src/db/bootstrap.ts'
import { publishVersion, type NewVersion } from '../../src/db/versions.ts'
import type { KeyScope } from '../../src/protocol/key-scopes.ts'
import type { GenerateEvent } from '../../src/protocol/runner.ts'
import { adapterKey } from '../../src/storage/blobs.ts'
import { sha256Hex } from '../../src/storage/digest.ts'
import { GEOMETRY, MODEL_DIGEST } from './runner-double.ts'

export const MODEL = 'smollm2-135m-instruct'

/** A project of a test's own, with a key: tests share the database of their file. */
export async function makeProject(
  options: { readonly organizationId?: string; readonly scopes?: readonly KeyScope[] } = {},
): Promise<{ projectId: string; key: string }> {
  const projectId = `p-${crypto.randomUUID()}`
  const key = `sk-${crypto.randomUUID()}`
  const hash = await sha256Hex(new TextEncoder().encode(key))
  await env.DB.batch(
    bootstrapStatements(projectId, hash, options).map((s) =>
      env.DB.prepare(s.sql).bind(...s.params),
    ),
  )
  return { projectId, key }
}

export type Client = ReturnType<typeof clientOf>

/** @param gateway the gateway that is asked; by default that of the suite's own settings */
export function clientOf(
  key: string,
  gateway: Pick<typeof exports.default, 'fetch'> = exports.default,
) {
  const call = (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ) =>
    gateway.fetch(`http://gateway${path}`, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        ...(body === undefined || body instanceof FormData
          ? {}
          : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined
        ? {}
        : {
            body:
              typeof body === 'string' || body instanceof FormData || body instanceof Uint8Array
                ? body
                : JSON.stringify(body),
          }),
      ...(signal === undefined ? {} : { signal }),
    })
  return {
    call,
    chat: (body: Record<string, unknown>, headers: Record<string, string> = {}) =>
      call(
        'POST',
        '/v1/chat/completions',
        { model: MODEL, messages: [{ role: 'user', content: 'Hi' }], ...body },
        headers,
      ),
    complete: (body: object, headers: Record<string, string> = {}) =>
      call('POST', '/v1/completions', { model: MODEL, prompt: 'Once', ...body }, headers),
    respond: (body: object, headers: Record<string, string> = {}) =>
      call('POST', '/v1/responses', { model: MODEL, input: 'Hi', ...body }, headers),
  }
}

/** Publishes a version as a finished job would: blob first, then its rows. */
export async function publishTask(
  projectId: string,
  task: string,
  overrides: Partial<NewVersion> & { angle?: number; layer?: number } = {},
): Promise<{ number: number; digest: string }> {
  const { angle = 0.5, layer = 2, ...columns } = overrides
  const angles = new Float32Array((GEOMETRY.numHeads * GEOMETRY.headDim) / 2).fill(angle)
  const bytes = encodeAdapter({
    modelDigest: MODEL_DIGEST,
    scope: columns.scope ?? 'generated',
    dtype: 'F16',
    rotation: { geometry: GEOMETRY, layers: new Map([[layer, { angles }]]) },
  })
  const digest = await sha256Hex(bytes)
  await env.BLOBS.put(adapterKey(projectId, digest), bytes)
  const number = await publishVersion(env.DB, {
    projectId,
    task,
    digest: 'd'.repeat(64),
    model: MODEL,
    modelDigest: MODEL_DIGEST,
    adapterDigest: digest,
    scope: 'generated',
    layers: [layer],
    instructions: 'Answer with the category only.',
    position: 'before',
    labels: ['World', 'Sports'],
    bias: null,
    temperature: null,
    minConfidence: null,
    fallbackLabel: null,
    reportKey: 'none',
    jobId: `ftjob-${crypto.randomUUID()}`,
    createdAtMs: Date.now(),
    ...columns,
  })
  return { number, digest }
}

/** The JSON events of an SSE answer, and whether it ended with `[DONE]`. */
export async function readSse(
  response: Response,
): Promise<{ events: Record<string, never>[]; isDone: boolean }> {
  const text = await response.text()
  const frames = text
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line) => line.slice('data: '.length))
  return {
    events: frames
      .filter((frame) => frame !== '[DONE]')
      .map((frame) => JSON.parse(frame) as Record<string, never>),
    isDone: frames.at(-1) === '[DONE]',
  }
}

const callPart = (index: number, json: string, name?: string): GenerateEvent => ({
  event: 'tool_call',
  arm: 0,
  index,
  arguments: json,
  ...(name === undefined ? {} : { name }),
})

/** The double's answer, with a call of f and one of g before its end, each in parts. */
export const withCalls = (events: readonly GenerateEvent[]): GenerateEvent[] =>
  events.flatMap((event): GenerateEvent[] =>
    event.event === 'end'
      ? [
          callPart(0, '', 'f'),
          callPart(0, '{"a":'),
          callPart(0, '"x"}'),
          callPart(1, '{}', 'g'),
          { ...event, finish_reason: 'tool_calls' },
        ]
      : [event],
  )
