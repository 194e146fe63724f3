import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { MAX_ADAPTER_BYTES } from '../../adapters/format/adapter-file.ts'
import { DIGEST_PATTERN, generateRequestSchema } from '../../src/protocol/runner.ts'
import {
  decodeBinaryBody,
  encodeBinaryBody,
  gradientHeaderSchema,
  measureRequestSchema,
  scoreHeaderSchema,
  type GradientResponse,
} from '../../src/protocol/runner-scoring.ts'
import { detokenizeRequestSchema, tokenizeRequestSchema } from '../../src/protocol/tokenizer.ts'
import type { z } from 'zod'
import { noLog, type Log } from '../log.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { Runner } from '../runner.ts'
import { generate } from './generate.ts'
import { parseJson, readBody, sendFault, sendJson } from './http.ts'
import { createMetrics } from './metrics.ts'
import { describeStatus, type ServerIdentity } from './status.ts'
import { describeTokenizer, detokenize, tokenize } from './tokenizer-routes.ts'

/** The tokeniser refuses prompts far shorter than this. */
const MAX_GENERATE_BYTES = 8 << 20
const MAX_DATASET_BYTES = 64 << 20
const MAX_SCORE_BYTES = 256 << 20

/** The runner's HTTP API, as `src/protocol/runner.ts` and `runner-scoring.ts` describe it. */
export function createRunnerServer(
  runner: Runner,
  identity: ServerIdentity,
  log: Log = noLog,
): Server {
  const { adapters, datasets } = runner
  const { registry, countRefusal } = createMetrics(runner, identity.modelSlug)
  const secretHash = sha256(identity.secret)

  const routes: Readonly<
    Record<
      string,
      (request: IncomingMessage, response: ServerResponse, id: string) => Promise<void>
    >
  > = {
    'GET /v1/status': (_request, response) => {
      sendJson(response, 200, describeStatus(runner, identity))
      return Promise.resolve()
    },
    'GET /metrics': async (_request, response) => {
      const text = await registry.metrics()
      response.writeHead(200, { 'content-type': registry.contentType }).end(text)
    },
    'PUT /v1/adapters/:id': async (request, response, digest) => {
      const adapter = adapters.put(digest, await readBody(request, MAX_ADAPTER_BYTES))
      sendJson(response, 200, adapters.describe(adapter))
    },
    'DELETE /v1/adapters/:id': (_request, response, digest) => {
      if (!adapters.delete(digest))
        throw new RunnerFault('not_found', `adapter ${digest} is not resident`)
      response.writeHead(204).end()
      return Promise.resolve()
    },
    'PUT /v1/datasets/:id': async (request, response, digest) => {
      const dataset = datasets.put(digest, await readBody(request, MAX_DATASET_BYTES))
      const { prompts, answers } = dataset
      const { searchParams } = new URL(request.url ?? '/', 'http://runner')
      if (searchParams.get('use') === 'gradient') runner.gradients.warm(dataset)
      const lengths = prompts.map((prompt) => prompt.length)
      sendJson(response, 200, {
        digest,
        num_examples: prompts.length,
        num_labels: answers.kind === 'labels' ? answers.trie.labelTokens.length : 0,
        prompt_tokens: {
          total: lengths.reduce((sum, length) => sum + length, 0),
          longest: Math.max(...lengths),
        },
        ...(answers.kind === 'labels'
          ? {}
          : { target_tokens: answers.targets.map(({ length }) => length) }),
      })
    },
    'POST /v1/measure': async (request, response) => {
      const body = parseJson(new TextDecoder().decode(await readBody(request, MAX_DATASET_BYTES)))
      const wire = parse(measureRequestSchema, body)
      sendJson(response, 200, { too_long: await datasets.measure(wire) })
    },
    'POST /v1/score': async (request, response) => {
      const body = decodeBinaryBody(await readBody(request, MAX_SCORE_BYTES))
      if (!body) throw new RunnerFault('invalid_request', 'the score body is cut short')
      const header = parse(scoreHeaderSchema, parseJson(body.headerJson))
      checkBuild(runner, header.build_digest)
      const dataset = datasets.get(header.dataset)
      const logProbs = await runner.scorer.score(
        dataset,
        header,
        body.values,
        () => response.destroyed,
      )
      sendJson(response, 200, {
        build_digest: runner.context.buildDigest,
        log_probs: logProbs,
      })
    },
    'POST /v1/gradient': async (request, response) => {
      const body = decodeBinaryBody(await readBody(request, MAX_SCORE_BYTES))
      if (!body) throw new RunnerFault('invalid_request', 'the gradient body is cut short')
      const header = parse(gradientHeaderSchema, parseJson(body.headerJson))
      checkBuild(runner, header.build_digest)
      const { loss, logProbs, gradient } = await runner.gradients.gradient(
        datasets.get(header.dataset),
        header,
        body.values,
        () => response.destroyed,
      )
      const values = new Float32Array(loss.length + logProbs.length + gradient.length)
      values.set(loss)
      values.set(logProbs, loss.length)
      values.set(gradient, loss.length + logProbs.length)
      const answer: GradientResponse = {
        build_digest: runner.context.buildDigest,
        num_candidates: loss.length,
        num_examples: logProbs.length / loss.length,
      }
      const bytes = encodeBinaryBody(answer, values)
      response.writeHead(200, {
        'content-type': 'application/octet-stream',
        'content-length': bytes.length,
      })
      response.end(bytes)
    },
    'GET /tokenizer_info': (_request, response) => {
      sendJson(response, 200, describeTokenizer(runner.context))
      return Promise.resolve()
    },
    'POST /tokenize': async (request, response) => {
      const wire = parse(tokenizeRequestSchema, await readJson(request))
      sendJson(response, 200, await tokenize(runner.context, wire))
    },
    'POST /detokenize': async (request, response) => {
      const wire = parse(detokenizeRequestSchema, await readJson(request))
      sendJson(response, 200, detokenize(runner.context, wire))
    },
    'POST /v1/generate': async (request, response) => {
      await generate(runner, parse(generateRequestSchema, await readJson(request)), response)
    },
  }

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { pathname } = new URL(request.url ?? '/', 'http://runner')
    if (pathname === '/healthz') {
      sendJson(response, 200, { status: 'ok' })
      return
    }
    const [scheme, token] = (request.headers.authorization ?? '').split(' ')
    if (scheme !== 'Bearer' || !timingSafeEqual(sha256(token ?? ''), secretHash)) {
      throw new RunnerFault('unauthorized', 'the runner secret is wrong')
    }
    const [, resource, id] = /^(\/v1\/[a-z]+)\/([^/]+)$/.exec(pathname) ?? []
    const route = routes[`${request.method ?? ''} ${resource ? `${resource}/:id` : pathname}`]
    if (!route)
      throw new RunnerFault('not_found', `there is no ${request.method ?? ''} ${pathname}`)
    if (id !== undefined && !DIGEST_PATTERN.test(id)) {
      throw new RunnerFault('invalid_request', 'a digest is 64 lower-case hex characters')
    }
    await route(request, response, id ?? '')
  }

  return createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      const fault = RunnerFault.from(error)
      countRefusal(fault.code)
      const isOurs = fault.code === 'internal' && !response.destroyed
      log(isOurs ? 'error' : 'info', 'call_refused', {
        call: `${request.method ?? ''} ${request.url ?? ''}`,
        code: fault.code,
        message: fault.message,
        stack: isOurs && error instanceof Error ? error.stack : undefined,
      })
      if (response.headersSent || response.destroyed) response.destroy()
      // The body may be unread, and would then be taken for the connection's next request.
      else sendFault(response.setHeader('connection', 'close'), fault)
    })
  })
}

const readJson = async (request: IncomingMessage): Promise<unknown> =>
  parseJson(new TextDecoder().decode(await readBody(request, MAX_GENERATE_BYTES)))

/** @throws {RunnerFault} build_mismatch where the caller names another build */
function checkBuild({ context: { buildDigest } }: Runner, wanted: string | undefined): void {
  if (wanted === undefined || wanted === buildDigest) return
  throw new RunnerFault('build_mismatch', `this runner serves build ${buildDigest}`)
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  throw new RunnerFault('invalid_request', issue.message, { param: issue.path.join('.') })
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()
