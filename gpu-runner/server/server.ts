import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { MAX_ADAPTER_BYTES } from '../../adapters/format/adapter-file.ts'
import {
  DIGEST_PATTERN,
  generateRequestSchema,
  RUNNER_PROTOCOL_VERSION,
  type GenerateEvent,
  type GenerateRequest,
  type RunnerStatus,
} from '../../src/protocol/runner.ts'
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
import { admit } from '../admission/admit.ts'
import type { EngineRequest } from '../scheduler/request.ts'
import { noLog, type Log } from '../log.ts'
import type { OpenGrammar } from '../grammar/grammar-store.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { Runner } from '../runner.ts'
import { isGeneric, openGrammar } from '../admission/open-grammar.ts'
import { parseJson, readBody, sendFault, sendJson } from './http.ts'
import { createMetrics } from './metrics.ts'
import { describeTokenizer, detokenize, tokenize } from './tokenizer-routes.ts'

/** A prompt of this many bytes is refused by the tokeniser's own bound long before. */
const MAX_GENERATE_BYTES = 8 << 20
const MAX_DATASET_BYTES = 64 << 20
const MAX_SCORE_BYTES = 256 << 20

export type ServerIdentity = {
  readonly runnerId: string
  readonly secret: string
  readonly modelSlug: string
  readonly modelDigest: string
  readonly ortBackend: RunnerStatus['ort_backend']
}

/** HTTP ⇄ engine: the runner API of DESIGN §4. */
export function createRunnerServer(
  runner: Runner,
  identity: ServerIdentity,
  log: Log = noLog,
): Server {
  const { adapters, datasets } = runner
  const { registry, countRefusal } = createMetrics(runner)
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
      if (!adapters.delete(digest)) throw new RunnerFault('not_found', `no adapter ${digest} here`)
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
    if (!route) throw new RunnerFault('not_found', `no ${request.method ?? ''} ${pathname}`)
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
      // An unread body would be taken for the connection's next request.
      else sendFault(response.setHeader('connection', 'close'), fault)
    })
  })
}

const readJson = async (request: IncomingMessage): Promise<unknown> =>
  parseJson(new TextDecoder().decode(await readBody(request, MAX_GENERATE_BYTES)))

/** Streams a request's events; a caller that leaves ends the request. */
async function generate(
  runner: Runner,
  wire: GenerateRequest,
  response: ServerResponse,
): Promise<void> {
  const { engine } = runner
  engine.checkCapacity(wire.service_tier)
  if (wire.arms.length > engine.options.maxNumSeqs) {
    throw new RunnerFault('invalid_request', `at most ${engine.options.maxNumSeqs} arms`, {
      param: 'arms',
    })
  }
  const emit = createEventWriter(response)
  const { grammars, context } = runner
  const { tokenizer } = context
  const grammar = await openGrammar({ grammars, tokenizer }, wire)
  const form = isGeneric(tokenizer, wire) ? ({ tool_form: 'generic' } as const) : {}
  if (response.destroyed) {
    grammar?.close()
    return
  }
  const request = admitOrSayWhen(runner, wire, emit, grammar)
  const hints = grammar?.hints ?? []
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  response.on('close', () => {
    if (!response.writableEnded) engine.abort(request)
  })
  for (const { sequences } of request.groups) {
    for (const { arm, describeApplied } of sequences) {
      const numTokens = request.promptIds.length
      emit({
        event: 'accepted',
        arm,
        applied: describeApplied(),
        prompt_tokens: numTokens,
        ...form,
        ...(hints.length === 0 ? {} : { schema_hints: [...hints] }),
      })
    }
  }
  engine.submit(request)
}

/** As `admit`; where a table is full, the fault says when there should be room. */
function admitOrSayWhen(
  { context, engine }: Runner,
  wire: GenerateRequest,
  emit: (event: GenerateEvent) => void,
  grammar: OpenGrammar | null,
): EngineRequest {
  try {
    return admit(context, wire, emit, grammar)
  } catch (error) {
    if (!(error instanceof RunnerFault) || error.code !== 'over_capacity') throw error
    throw new RunnerFault(error.code, error.message, {
      ...error.details,
      retry_after_seconds: engine.retryAfterSeconds(),
    })
  }
}

/** @throws {RunnerFault} the caller wants numbers of another build */
function checkBuild({ context: { buildDigest } }: Runner, wanted: string | undefined): void {
  if (wanted === undefined || wanted === buildDigest) return
  throw new RunnerFault('build_mismatch', `this runner serves build ${buildDigest}`)
}

function describeStatus(
  { config, context, engine, executor, adapters }: Runner,
  identity: ServerIdentity,
): RunnerStatus {
  return {
    protocol_version: RUNNER_PROTOCOL_VERSION,
    runner_id: identity.runnerId,
    model: {
      slug: identity.modelSlug,
      model_digest: context.modelDigest,
      build_digest: context.buildDigest,
      num_layers: config.numLayers,
      num_heads: config.numHeads,
      num_kv_heads: config.numKvHeads,
      head_dim: config.headDim,
      hidden_size: config.hidden,
      vocab_size: config.vocab,
      max_context: context.maxContext,
    },
    ort_backend: identity.ortBackend,
    limits: {
      max_rows: engine.options.maxNumSeqs,
      max_waiting: engine.options.maxWaiting,
      max_adapter_bytes: MAX_ADAPTER_BYTES,
      max_resident_adapters: adapters.maxResident,
      max_prefix_cache_bytes: engine.prefixCache.maxBytes,
    },
    prefix_cache: { bytes: engine.prefixCache.sizeBytes, blocks: engine.prefixCache.numBlocks },
    load: engine.load,
    job_share: { limit: executor.turns.jobShare, measured: executor.turns.measuredShare },
    resident_adapters: adapters.digests,
  }
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  throw new RunnerFault('invalid_request', issue.message, { param: issue.path.join('.') })
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()

/**
 * Writes events a line each, not at once but after what this turn still does: by then the engine has
 * begun its next step, so writing costs a step nothing.
 */
function createEventWriter(response: ServerResponse): (event: GenerateEvent) => void {
  let pending: GenerateEvent[] = []
  const flush = (): void => {
    const events = pending
    pending = []
    response.write(events.map((event) => `${JSON.stringify(event)}\n`).join(''))
    const last = events[events.length - 1]!
    if (last.event === 'done' || (last.event === 'error' && last.arm === null)) response.end()
  }
  return (event) => {
    if (pending.push(event) === 1) setImmediate(flush)
  }
}
