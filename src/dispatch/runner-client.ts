import { z } from 'zod'
import {
  generateEventSchema,
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
import { readNdjson } from './ndjson.ts'

const STATUS_TIMEOUT_MS = 2_000
const TOKENIZE_TIMEOUT_MS = 30_000
const PUSH_TIMEOUT_MS = 30_000
/** A dataset is tokenised and its prompts may be prefilled before the answer. */
const DATASET_TIMEOUT_MS = 300_000
const SCORE_TIMEOUT_MS = 300_000
/** Longest silence of a generating runner: a full queue of long prompts ahead. */
const SILENCE_TIMEOUT_MS = 180_000

/** The runner answered, and said no. */
export class RunnerRefusal extends Error {
  readonly error: RunnerError

  constructor(error: RunnerError) {
    super(`${error.code}: ${error.message}`)
    this.name = 'RunnerRefusal'
    this.error = error
  }
}

/** A call on a runner failed: no answer came, it broke off, or it was not the protocol's. */
export class RunnerCallFailure extends Error {
  /** `cancelled` is the gateway's own doing: the caller has gone. */
  readonly kind: 'unreachable' | 'died' | 'protocol' | 'timeout' | 'cancelled'

  constructor(kind: RunnerCallFailure['kind'], message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'RunnerCallFailure'
    this.kind = kind
  }
}

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
    return readJson(response, runnerStatusSchema)
  }

  async tokenizerInfo() {
    const response = await this.#call('GET', '/tokenizer_info', null, {
      signal: AbortSignal.timeout(STATUS_TIMEOUT_MS),
    })
    return readJson(response, tokenizerInfoSchema)
  }

  async tokenize(request: z.infer<typeof tokenizeRequestSchema>) {
    return readJson(await this.#post('/tokenize', request), tokenizeResponseSchema)
  }

  async detokenize(request: z.infer<typeof detokenizeRequestSchema>) {
    return readJson(await this.#post('/detokenize', request), detokenizeResponseSchema)
  }

  async measure(request: MeasureRequest) {
    const body = new TextEncoder().encode(JSON.stringify(request))
    const response = await this.#call('POST', '/v1/measure', body, {
      type: 'application/json',
      signal: AbortSignal.timeout(DATASET_TIMEOUT_MS),
    })
    return readJson(response, measureResponseSchema)
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
    return readJson(response, datasetResidentSchema)
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
    return readJson(response, scoreResponseSchema)
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
      if (response.body === null) throw new RunnerCallFailure('protocol', 'generate without a body')
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
  let bytes: Uint8Array
  try {
    bytes = new Uint8Array(await response.arrayBuffer())
  } catch (error) {
    throw new RunnerCallFailure('died', `runner's answer ended early: ${String(error)}`, error)
  }
  const body = decodeBinaryBody(bytes)
  const header = gradientResponseSchema.safeParse(body === null ? null : parseJson(body.headerJson))
  if (body === null || !header.success) {
    throw new RunnerCallFailure('protocol', 'runner’s gradient is malformed')
  }
  const { num_candidates: answered, num_examples: numExamples } = header.data
  const numLogProbs = numCandidates * numExamples
  // What was sent is the candidates and a weight for each log probability.
  const isShaped = answered === numCandidates && body.values.length === numCandidates + numSent
  if (!isShaped) throw new RunnerCallFailure('protocol', 'runner’s gradient is of another shape')
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

async function readRefusal(response: Response, call: string): Promise<RunnerError> {
  const text = await response.text().catch(() => '')
  try {
    return runnerErrorBodySchema.parse(JSON.parse(text)).error
  } catch (error) {
    throw new RunnerCallFailure(
      'protocol',
      `runner answered ${call} with ${response.status} and no error of the protocol`,
      error,
    )
  }
}

async function readJson<T>(response: Response, schema: z.ZodType<T>): Promise<T> {
  let value: unknown
  try {
    value = await response.json()
  } catch (error) {
    throw new RunnerCallFailure('died', `runner's answer ended early: ${String(error)}`, error)
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new RunnerCallFailure(
    'protocol',
    `runner's answer is malformed: ${z.prettifyError(parsed.error)}`,
  )
}

async function* readEvents(
  body: ReadableStream<Uint8Array>,
  watchdog: Watchdog,
): AsyncGenerator<GenerateEvent> {
  try {
    for await (const value of readNdjson(body)) {
      watchdog.feed()
      const parsed = generateEventSchema.safeParse(value)
      if (!parsed.success) {
        throw new RunnerCallFailure(
          'protocol',
          `runner's event is malformed: ${z.prettifyError(parsed.error)}`,
        )
      }
      yield parsed.data
    }
  } catch (error) {
    if (error instanceof RunnerCallFailure) throw error
    if (watchdog.signal.aborted) throw callFailureOf(error, watchdog.signal, 'POST /v1/generate')
    const isBroken = error instanceof SyntaxError || error instanceof RangeError
    throw new RunnerCallFailure(
      isBroken ? 'protocol' : 'died',
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
    this.feed()
  }

  feed(): void {
    this.stop()
    this.#timer = setTimeout(() => {
      this.#controller.abort(new RunnerCallFailure('timeout', 'runner fell silent'))
    }, SILENCE_TIMEOUT_MS)
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
  }
}
