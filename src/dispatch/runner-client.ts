import { z } from 'zod'
import {
  generateEventSchema,
  RUNNER_PROTOCOL_VERSION,
  runnerErrorBodySchema,
  runnerStatusSchema,
  type GenerateEvent,
  type GenerateRequest,
  type RunnerError,
  type RunnerStatus,
} from '../protocol/runner.ts'
import {
  datasetResidentSchema,
  decodeBinaryBody,
  encodeBinaryBody,
  encodeScoreBody,
  gradientResponseSchema,
  measureResponseSchema,
  scoreResponseSchema,
  type GradientHeader,
  type GradientResponse,
  type MeasureRequest,
  type ScoreHeader,
  type ScoreResponse,
} from '../protocol/runner-scoring.ts'
import {
  detokenizeResponseSchema,
  tokenizeResponseSchema,
  tokenizerInfoSchema,
  type detokenizeRequestSchema,
  type tokenizeRequestSchema,
} from '../protocol/tokenizer.ts'
import { parseAnswer, readBody, readJson } from './read-answer.ts'
import { readLines } from './read-lines.ts'
import { RunnerCallFailure, RunnerRefusal } from './runner-failure.ts'

export { RunnerCallFailure, RunnerRefusal }

const STATUS_TIMEOUT_MS = 2_000
const TOKENIZE_TIMEOUT_MS = 30_000
const PUSH_TIMEOUT_MS = 30_000
/** A dataset is tokenised and its prompts may be prefilled before the answer. */
const DATASET_TIMEOUT_MS = 300_000
const SCORE_TIMEOUT_MS = 300_000
const KIB = 1024
const MIB = 1024 * KIB
/** The longest answers that are read. A status lists up to some thousand digests of 64 characters. */
const MAX_STATUS_BYTES = 4 * MIB
const MAX_ERROR_BYTES = 256 * KIB
/** Tokens of the longest text of a request, or scores of the largest call of a job. */
const MAX_JSON_BYTES = 64 * MIB
/** The header of a gradient has three fields. */
const MAX_GRADIENT_HEADER_BYTES = 64 * KIB
/** What a status outside the protocol that says "busy" is taken for, if it does not say how long. */
const DEFAULT_RETRY_SECONDS = 1
const MAX_RETRY_SECONDS = 60
/** Until a generation is admitted: the runner encodes the prompt and compiles a schema before. */
const HEADER_TIMEOUT_MS = 60_000
/** Until the first token: a full queue of long prompts may be ahead. */
const FIRST_TOKEN_TIMEOUT_MS = 180_000
/** Between two events. A row may be set aside for other tenants' rows meanwhile. */
const INTER_TOKEN_TIMEOUT_MS = 120_000

const versionSchema = z.object({ protocol_version: z.number().int() })

/** HTTP to one runner node. */
export class RunnerClient {
  readonly url: string
  readonly #secret: string

  constructor(url: string, secret: string) {
    this.url = url
    this.#secret = secret
  }

  async status(): Promise<RunnerStatus> {
    const response = await this.#call('GET', '/v1/status', null, {
      signal: AbortSignal.timeout(STATUS_TIMEOUT_MS),
    })
    const bytes = await readBody(response, MAX_STATUS_BYTES)
    const text = new TextDecoder().decode(bytes)
    // The version comes first, because a status of another version may have any shape.
    const { protocol_version: version } = parseAnswer(text, versionSchema)
    if (version !== RUNNER_PROTOCOL_VERSION) {
      throw new RunnerCallFailure(
        'wrong_version',
        `runner speaks version ${version} of the protocol, not ${RUNNER_PROTOCOL_VERSION}`,
      )
    }
    return parseAnswer(text, runnerStatusSchema)
  }

  async tokenizerInfo() {
    const response = await this.#call('GET', '/tokenizer_info', null, {
      signal: AbortSignal.timeout(STATUS_TIMEOUT_MS),
    })
    return readJson(response, tokenizerInfoSchema, MAX_JSON_BYTES)
  }

  async tokenize(request: z.infer<typeof tokenizeRequestSchema>) {
    return readJson(await this.#post('/tokenize', request), tokenizeResponseSchema, MAX_JSON_BYTES)
  }

  async detokenize(request: z.infer<typeof detokenizeRequestSchema>) {
    return readJson(
      await this.#post('/detokenize', request),
      detokenizeResponseSchema,
      MAX_JSON_BYTES,
    )
  }

  async measure(request: MeasureRequest) {
    const body = new TextEncoder().encode(JSON.stringify(request))
    const response = await this.#call('POST', '/v1/measure', body, {
      type: 'application/json',
      signal: AbortSignal.timeout(DATASET_TIMEOUT_MS),
    })
    return readJson(response, measureResponseSchema, MAX_JSON_BYTES)
  }

  async putAdapter(digest: string, bytes: Uint8Array): Promise<void> {
    const response = await this.#call('PUT', `/v1/adapters/${digest}`, bytes, {
      type: 'application/octet-stream',
      signal: AbortSignal.timeout(PUSH_TIMEOUT_MS),
    })
    await response.body?.cancel()
  }

  /** @param use what the job will ask for first, which the runner then begins to load */
  async putDataset(
    digest: string,
    bytes: Uint8Array,
    signal?: AbortSignal,
    use: 'score' | 'gradient' = 'score',
  ) {
    const query = use === 'gradient' ? '?use=gradient' : ''
    const response = await this.#call('PUT', `/v1/datasets/${digest}${query}`, bytes, {
      type: 'application/json',
      signal: withTimeout(DATASET_TIMEOUT_MS, signal),
    })
    return readJson(response, datasetResidentSchema, MAX_JSON_BYTES)
  }

  async score(
    header: ScoreHeader,
    values: Float32Array,
    signal?: AbortSignal,
  ): Promise<ScoreResponse> {
    const response = await this.#call('POST', '/v1/score', encodeScoreBody(header, values), {
      type: 'application/octet-stream',
      signal: withTimeout(SCORE_TIMEOUT_MS, signal),
    })
    return readJson(response, scoreResponseSchema, MAX_JSON_BYTES)
  }

  /**
   * @param values candidates, then example weights
   * @returns the answer's header and its values, of the number the header and request ask for
   */
  async gradient(
    header: GradientHeader,
    values: Float32Array,
    signal?: AbortSignal,
  ): Promise<GradientAnswer> {
    const response = await this.#call('POST', '/v1/gradient', encodeBinaryBody(header, values), {
      type: 'application/octet-stream',
      signal: withTimeout(SCORE_TIMEOUT_MS, signal),
    })
    return readGradient(response, header, values.length)
  }

  /**
   * Starts a generation.
   * @param controller its abort ends the call and frees the runner's rows
   * @returns the events, once the runner has taken the request
   * @throws {RunnerRefusal | RunnerCallFailure} also from the events
   */
  async generate(
    request: GenerateRequest,
    controller: AbortController,
  ): Promise<AsyncGenerator<GenerateEvent>> {
    const watchdog = new Watchdog(controller)
    try {
      const response = await this.#call(
        'POST',
        '/v1/generate',
        new TextEncoder().encode(JSON.stringify(request)),
        { type: 'application/json', signal: controller.signal },
      )
      if (response.body === null)
        throw new RunnerCallFailure('malformed', 'generate without a body')
      return readEvents(response.body as ReadableStream<Uint8Array>, watchdog)
    } catch (error) {
      watchdog.stop()
      throw error
    }
  }

  #post(path: string, body: object): Promise<Response> {
    return this.#call('POST', path, new TextEncoder().encode(JSON.stringify(body)), {
      type: 'application/json',
      signal: AbortSignal.timeout(TOKENIZE_TIMEOUT_MS),
    })
  }

  async #call(
    method: string,
    path: string,
    body: Uint8Array | null,
    options: { readonly type?: string; readonly signal: AbortSignal },
  ): Promise<Response> {
    let response: Response
    try {
      response = await fetch(this.url + path, {
        method,
        headers: {
          authorization: `Bearer ${this.#secret}`,
          ...(options.type === undefined ? {} : { 'content-type': options.type }),
        },
        body,
        signal: options.signal,
      })
    } catch (error) {
      throw callFailureOf(error, options.signal, `${method} ${path}`)
    }
    if (response.ok) return response
    throw new RunnerRefusal(await readRefusal(response, `${method} ${path}`))
  }
}

/** The float32 values of an answer to `POST /v1/gradient`; gradients are laid out as candidates. */
export type GradientAnswer = {
  readonly header: GradientResponse
  readonly logProbs: Float32Array
  readonly gradient: Float32Array
}

async function readGradient(
  response: Response,
  { num_candidates: numCandidates }: GradientHeader,
  numSent: number,
): Promise<GradientAnswer> {
  // What was sent is the candidates and a weight for each log probability.
  const numValues = numCandidates + numSent
  const maxBytes = numValues * Float32Array.BYTES_PER_ELEMENT + MAX_GRADIENT_HEADER_BYTES
  const bytes = await readBody(response, maxBytes)
  const body = decodeBinaryBody(bytes)
  const header = gradientResponseSchema.safeParse(body === null ? null : parseJson(body.headerJson))
  if (body === null || !header.success) {
    throw new RunnerCallFailure('malformed', 'runner’s gradient is malformed')
  }
  const { num_candidates: answered, num_examples: numExamples } = header.data
  const numLogProbs = numCandidates * numExamples
  const isShaped = answered === numCandidates && body.values.length === numValues
  if (!isShaped) throw new RunnerCallFailure('malformed', 'runner’s gradient is of another shape')
  const gradientAt = numCandidates + numLogProbs
  return {
    header: header.data,
    logProbs: body.values.subarray(numCandidates, gradientAt),
    gradient: body.values.subarray(gradientAt),
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

const withTimeout = (timeoutMs: number, signal: AbortSignal | undefined) => {
  const timeout = AbortSignal.timeout(timeoutMs)
  return signal === undefined ? timeout : AbortSignal.any([timeout, signal])
}

function callFailureOf(error: unknown, signal: AbortSignal, call: string): RunnerCallFailure {
  if (error instanceof RunnerCallFailure) return error
  const reason: unknown = signal.aborted ? signal.reason : null
  if (reason instanceof RunnerCallFailure) return reason
  if (reason instanceof DOMException && reason.name === 'TimeoutError') {
    return new RunnerCallFailure('timeout', `runner did not answer ${call} in time`, error)
  }
  if (signal.aborted) return new RunnerCallFailure('cancelled', `${call} was given up`, error)
  return new RunnerCallFailure(
    'unreachable',
    `runner did not answer ${call}: ${String(error)}`,
    error,
  )
}

/** @throws {RunnerCallFailure} `bad_status`, if the body is not the protocol's error */
async function readRefusal(response: Response, call: string): Promise<RunnerError> {
  const { status } = response
  try {
    return (await readJson(response, runnerErrorBodySchema, MAX_ERROR_BYTES)).error
  } catch (error) {
    const message = `runner answered ${call} with ${status} and no error of the protocol`
    // A proxy before the runner is busy.
    if (status === 429 || status === 503) {
      const given = Number(response.headers.get('retry-after') ?? DEFAULT_RETRY_SECONDS)
      const seconds = Number.isFinite(given) ? Math.ceil(given) : DEFAULT_RETRY_SECONDS
      const retry_after_seconds = Math.min(Math.max(seconds, 1), MAX_RETRY_SECONDS)
      return { code: 'over_capacity', message, outcome: 'over_capacity', retry_after_seconds }
    }
    throw new RunnerCallFailure('bad_status', message, error)
  }
}

async function* readEvents(
  body: ReadableStream<Uint8Array>,
  watchdog: Watchdog,
): AsyncGenerator<GenerateEvent> {
  try {
    for await (const line of readLines(body)) {
      const event = parseAnswer(line, generateEventSchema)
      const isBeforeToken = event.event === 'accepted' || event.event === 'prompt'
      watchdog.waitFor(isBeforeToken ? FIRST_TOKEN_TIMEOUT_MS : INTER_TOKEN_TIMEOUT_MS)
      yield event
    }
  } catch (error) {
    if (error instanceof RunnerCallFailure) throw error
    if (watchdog.signal.aborted) throw callFailureOf(error, watchdog.signal, 'POST /v1/generate')
    throw new RunnerCallFailure(
      error instanceof RangeError
        ? 'oversized'
        : error instanceof SyntaxError
          ? 'malformed'
          : 'died',
      `runner's stream broke: ${String(error)}`,
      error,
    )
  } finally {
    watchdog.stop()
  }
}

/** Aborts a call whose runner has been silent for too long. */
class Watchdog {
  readonly signal: AbortSignal
  readonly #controller: AbortController
  #timer: ReturnType<typeof setTimeout> | null = null

  constructor(controller: AbortController) {
    this.#controller = controller
    this.signal = controller.signal
    this.waitFor(HEADER_TIMEOUT_MS)
  }

  /** Gives the runner so long for what comes next. */
  waitFor(timeoutMs: number): void {
    this.stop()
    this.#timer = setTimeout(() => {
      this.#controller.abort(new RunnerCallFailure('timeout', 'runner fell silent'))
    }, timeoutMs)
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
  }
}
