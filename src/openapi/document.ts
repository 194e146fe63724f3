/** The gateway's API as an OpenAPI 3.1 document. */
import type { z } from 'zod'
import { QUERY_PARAMETERS } from '../middleware/known-query.ts'
import { scopesOf } from '../middleware/require-scope.ts'
import { KEY_SCOPES } from '../protocol/key-scopes.ts'
import type { ErrorStatus } from '../protocol/openai/error.ts'
import { proof, tokenLogprobs, usage } from './answers/chat.ts'
import { errorBody } from './answers/common.ts'
import { classification, report } from './answers/report.ts'
import { ref, toComponents, toJsonSchema, withUnread } from './json-schema.ts'
import {
  REQUEST_HEADERS,
  type Answer,
  type Json,
  type Operation,
  type RequestBody,
} from './operation.ts'
import { batches } from './operations/batches.ts'
import { inference } from './operations/inference.ts'
import { organization, withoutKey } from './operations/organization.ts'
import { learning } from './operations/tasks.ts'

export const OPERATIONS: readonly Operation[] = [
  ...inference,
  ...batches,
  ...learning,
  ...organization,
  ...withoutKey,
]

const JSON_TYPE = 'application/json'
const SECURITY = 'apiKey'

const ERRORS: Readonly<Record<ErrorStatus, string>> = {
  400: 'The request is malformed, or asks for what is not served.',
  401: 'There is no key, or it is not valid.',
  403: 'The key may not do this.',
  404: 'There is nothing of this name.',
  405: 'The path has no such method.',
  409: 'Something else changed first.',
  413: 'The body is too large.',
  415: "The body's encoding is not known.",
  429: 'A limit is reached, or the runners are full.',
  500: 'The gateway failed.',
  502: 'The runner failed, or its answer could not be trusted.',
  503: 'No runner serves the model at the moment.',
  504: 'The answer was not ready in time.',
}

/** Parts of several answers. */
const SHARED = {
  Error: errorBody,
  Proof: proof,
  TokenLogprobs: tokenLogprobs,
  Usage: usage,
  Report: report,
  Classification: classification,
}

const STRING = { type: 'string' }
/** Headers of every answer. */
const EVERY_ANSWER: Json = {
  'x-request-id': { $ref: '#/components/headers/RequestId' },
  'x-arcana-gateway-ms': { $ref: '#/components/headers/GatewayMs' },
}
/** Where the caller's limits stand; absent where there is no limit. */
const LIMIT_HEADERS: Json = Object.fromEntries(
  ['limit', 'remaining', 'reset'].flatMap((what) =>
    ['requests', 'tokens'].map((unit) => [
      `x-ratelimit-${what}-${unit}`,
      { $ref: '#/components/headers/RateLimit' },
    ]),
  ),
)
/** Headers of answers of a model. */
const OF_ANSWERS: Readonly<Record<string, string>> = {
  'x-arcana-task': 'The selection that answered, in canonical form.',
  'x-arcana-version': 'The versions that answered.',
  'x-arcana-adapter': 'The digests of the adapters that answered.',
  'x-arcana-ignored': 'Fields of the request that did nothing.',
  'x-arcana-warning': 'What the answer may lack.',
  'x-arcana-not-held': 'Keywords of the schemas that are not enforced.',
  'x-arcana-tools': '`generic` where the template of the model cannot show functions.',
}

let known: Json | null = null

/** @param serverUrl where the gateway is reached; all else is made once, because it takes 50 ms */
export function createDocument(serverUrl: string): Json {
  known ??= describeApi()
  return { ...known, servers: [{ url: serverUrl }] }
}

function describeApi(): Json {
  const bodies = OPERATIONS.flatMap(({ body }) => (body?.kind === 'json' ? [body] : []))
  const answers = OPERATIONS.flatMap(({ answer }) =>
    answer.kind === 'json' ? [answer, ...(answer.event === undefined ? [] : [answer.event])] : [],
  )
  const requests = toComponents(
    Object.fromEntries(bodies.map(({ name, schema }) => [name, schema])),
    'input',
  )
  for (const { name, ...rules } of bodies) requests[name] = withUnread(requests[name]!, rules)
  const responses = toComponents(
    { ...Object.fromEntries(answers.map(({ name, schema }) => [name, schema])), ...SHARED },
    'output',
  )
  return {
    openapi: '3.1.0',
    info: {
      title: 'Arcana',
      version: '0.1.0',
      description:
        "OpenAI's API with tasks: a task is a small adapter of the base model, learnt from examples.",
    },
    servers: [],
    tags: [...new Set(OPERATIONS.map(({ tag }) => tag))].map((name) => ({ name })),
    paths: pathsOf(OPERATIONS),
    components: {
      schemas: { ...requests, ...responses },
      headers: {
        RequestId: { description: "The request's id, in the gateway's logs too.", schema: STRING },
        GatewayMs: {
          description:
            'Milliseconds that the gateway itself took until the answer began, without its waits for runners.',
          schema: STRING,
        },
        RateLimit: {
          description: 'What a minute admits, what is left of it, or until when that is renewed.',
          schema: STRING,
        },
        RetryAfter: { description: 'Seconds to wait.', schema: STRING },
        ShouldRetry: { description: '`false` where a repetition fails too.', schema: STRING },
      },
      responses: Object.fromEntries(
        Object.entries(ERRORS).map(([status, description]) => [
          `Error${status}`,
          {
            description,
            headers: {
              ...EVERY_ANSWER,
              ...LIMIT_HEADERS,
              ...(status === '429' || status >= '500'
                ? {
                    'retry-after': { $ref: '#/components/headers/RetryAfter' },
                    'x-should-retry': { $ref: '#/components/headers/ShouldRetry' },
                  }
                : {}),
            },
            content: { [JSON_TYPE]: { schema: ref('Error') } },
          },
        ]),
      ),
      securitySchemes: {
        [SECURITY]: {
          type: 'http',
          scheme: 'bearer',
          description: `An API key. Its scopes are some of ${KEY_SCOPES.join(', ')}.`,
        },
      },
    },
  }
}

function pathsOf(operations: readonly Operation[]): Json {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const operation of operations) {
    const path = operation.path.replace(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [operation.method.toLowerCase()]: describe(operation) }
  }
  return paths
}

function describe(operation: Operation): Json {
  const { method, path, id, tag, summary, description, body, isPublic = false } = operation
  const parameters = parametersOf(operation)
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    security: isPublic ? [] : scopesOf(method, path).map((scope) => ({ [SECURITY]: [scope] })),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: requestBodyOf(body) }),
    responses: {
      200: {
        description: 'Done.',
        headers: { ...EVERY_ANSWER, ...answerHeaders(operation) },
        content: contentOf(operation.answer),
        ...(operation.links === undefined ? {} : { links: linksOf(operation.links) }),
      },
      ...Object.fromEntries(
        errorsOf(operation).map((status) => [
          status,
          { $ref: `#/components/responses/Error${status}` },
        ]),
      ),
    },
  }
}

function parametersOf({ method, path, query, headers = [] }: Operation): readonly Json[] {
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string', minLength: 1 },
  }))
  const inQuery = (QUERY_PARAMETERS[`${method} ${path}`] ?? []).map((name) => {
    const shape: Readonly<Record<string, z.ZodType>> = query?.shape ?? {}
    const schema = shape[name.replace(/\[\]$/, '')]
    if (schema === undefined) throw new Error(`${method} ${path}: ${name} has no schema`)
    const isObject = name === 'metadata'
    return {
      name,
      in: 'query',
      required: !schema.safeParse(undefined).success,
      schema: toJsonSchema(schema, 'input'),
      ...(isObject ? { style: 'deepObject', explode: true } : {}),
    }
  })
  const inHeader = headers.map((name) => ({ name, in: 'header', ...REQUEST_HEADERS[name] }))
  return [...inPath, ...inQuery, ...inHeader]
}

function requestBodyOf(body: RequestBody): Json {
  const content =
    body.kind === 'json'
      ? { [JSON_TYPE]: { schema: ref(body.name) } }
      : { 'multipart/form-data': { schema: body.schema } }
  return { required: true, content }
}

function contentOf(answer: Answer): Json {
  switch (answer.kind) {
    case 'json':
      return {
        [JSON_TYPE]: { schema: ref(answer.name) },
        ...(answer.event === undefined
          ? {}
          : { 'text/event-stream': { schema: eventOf(answer.event.name) } }),
      }
    case 'object':
      return { [JSON_TYPE]: { schema: answer.schema } }
    case 'html':
      return { 'text/html': { schema: STRING } }
    case 'bytes':
      return Object.fromEntries(answer.contentTypes.map((type) => [type, {}]))
  }
}

/** One event of a stream. The last one's data is `[DONE]`, but for `/v1/responses`. */
const eventOf = (name: string): Json => ({
  type: 'object',
  description: 'One event of the stream.',
  properties: {
    event: STRING,
    data: {
      type: 'string',
      contentMediaType: JSON_TYPE,
      contentSchema: { anyOf: [ref(name), ref('Error')] },
    },
  },
  required: ['data'],
})

function answerHeaders({ answer, headers }: Operation): Json {
  const own = answer.kind === 'bytes' ? (answer.headers ?? {}) : {}
  const described = Object.entries(headers === undefined ? own : OF_ANSWERS)
  return {
    ...Object.fromEntries(
      described.map(([name, description]) => [name, { description, schema: STRING }]),
    ),
    ...(headers === undefined ? {} : LIMIT_HEADERS),
  }
}

const linksOf = (links: NonNullable<Operation['links']>): Json =>
  Object.fromEntries(
    Object.entries(links).map(([operationId, parameters]) => [
      operationId,
      { operationId, parameters },
    ]),
  )

/** The statuses that follow from what an operation takes, and its own. */
function errorsOf({ path, body, errors = [], isPublic = false }: Operation): ErrorStatus[] {
  const statuses = new Set<ErrorStatus>([400, 500, ...errors])
  if (!isPublic) for (const status of [401, 403] as const) statuses.add(status)
  if (path.includes(':')) statuses.add(404)
  if (body !== undefined) for (const status of [413, 415] as const) statuses.add(status)
  return [...statuses].sort((a, b) => a - b)
}
