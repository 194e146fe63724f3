/**
 * A runner that speaks the protocol and holds no model. It keeps to the seam (residency, digests,
 * proofs), so that tests can provoke the faults a real runner shows once a month. What a real
 * model answers is tested in test/conformance.
 */
import { vi } from 'vitest'
import { decodeAdapter } from '../../adapters/format/decode.ts'
import { digestOfBias } from '../../src/dispatch/proof.ts'
import {
  generateRequestSchema,
  RUNNER_PROTOCOL_VERSION,
  type Applied,
  type Arm,
  type GenerateEvent,
  type GenerateRequest,
  type PositionLogprob,
  type RunnerError,
  type RunnerStatus,
} from '../../src/protocol/runner.ts'
import {
  datasetSchema,
  decodeBinaryBody,
  encodeBinaryBody,
  gradientHeaderSchema,
  isTargetDataset,
  measureRequestSchema,
  scoreHeaderSchema,
  type Dataset,
  type LabelDataset,
  type TargetDataset,
} from '../../src/protocol/runner-scoring.ts'
import { tokenizeRequestSchema } from '../../src/protocol/tokenizer.ts'
import { sha256Hex } from '../../src/storage/digest.ts'

export const MODEL_DIGEST = 'a'.repeat(64)
export const BUILD_DIGEST = 'b'.repeat(64)
export const GEOMETRY = { numLayers: 4, numHeads: 3, headDim: 16 }
const DEFAULT_URL = 'http://runner.test'

/** A target as text, also where the gateway gave its tokens. */
type TargetExample = Omit<TargetDataset['examples'][number], 'target'> & { readonly target: string }
type Handler = (request: Request) => Promise<Response | null> | Response | null

export class RunnerDouble {
  readonly url: string
  readonly adapters = new Map<string, Uint8Array>()
  readonly datasets = new Map<string, Dataset>()
  readonly #words: string[] = []
  /** Every call's method and path, in order. */
  readonly calls: string[] = []
  readonly generateRequests: GenerateRequest[] = []
  /** Rows of generations whose stream was cancelled by the gateway. */
  numAborted = 0
  buildDigest = BUILD_DIGEST
  modelDigest = MODEL_DIGEST
  slug = 'smollm2-135m-instruct'
  secret = 'test-runner-secret'
  isDown = false
  /** Answers instead of the double; null for the double's own answer. */
  intercept: Handler = () => null
  /** Answers for hosts other than runners; null for a host that does not exist. */
  elsewhere: Handler = () => null
  /** The label that a choice is sure of. */
  chosenLabel: (request: GenerateRequest, arm: Arm) => number = () => 0
  /** Milliseconds before an event of a generation. */
  delayMs: (event: GenerateEvent | 'die') => number = () => 0
  /** Sends a generation's events in chunks of one byte. */
  isCutFine = false
  /** Changes or cuts the events of a generation. */
  editEvents: (events: GenerateEvent[]) => (GenerateEvent | 'die')[] = (events) => events
  /** The words of a free answer. */
  words: (arm: Arm) => string[] = () => ['Hello', ' there']
  /** log P of each label for an example under a candidate's angles: higher is better. */
  scoreLabels: (
    angles: Float32Array,
    example: LabelDataset['examples'][number],
    labels: readonly string[],
  ) => number[] = defaultScores

  /** log P of an example's whole target under a candidate's angles. */
  scoreTarget: (angles: Float32Array, example: TargetExample) => number = defaultTargetScore

  /** d loss / d angle of each pair of one candidate, given its weights: downhill is better. */
  slopes: (angles: Float32Array, weights: Float32Array) => Float32Array = defaultSlopes

  constructor(url = DEFAULT_URL) {
    this.url = url
  }

  /** Replaces the network with this double, and others at other addresses. */
  install(...others: readonly RunnerDouble[]): void {
    vi.spyOn(globalThis, 'fetch').mockImplementation(async (input, init) => {
      const request = new Request(input, init)
      const double = [this, ...others].find(({ url }) => request.url.startsWith(url))
      if (double !== undefined) return double.#fetch(request, init?.signal ?? null)
      const answer = await this.elsewhere(request)
      if (answer === null) throw new TypeError(`no such host: ${request.url}`)
      return answer
    })
  }

  async #fetch(request: Request, signal: AbortSignal | null): Promise<Response> {
    if (this.isDown) throw new TypeError('connection refused')
    this.calls.push(`${request.method} ${request.url.slice(this.url.length)}`)
    if (request.headers.get('authorization') !== `Bearer ${this.secret}`) {
      return refuse(401, 'unauthorized', 'fatal')
    }
    return (await this.intercept(request)) ?? this.#answer(request, signal)
  }

  callsTo(prefix: string): number {
    return this.calls.filter((call) => call.startsWith(prefix)).length
  }

  /** The text of a target that the double generated. */
  textOf(target: TargetDataset['examples'][number]['target']): string {
    if (typeof target === 'string') return target
    return target.ids.map((id) => this.#words[id] ?? '?').join('')
  }

  async #answer(request: Request, signal: AbortSignal | null): Promise<Response> {
    const path = request.url.slice(this.url.length)
    const body = new Uint8Array(await request.arrayBuffer())
    if (path === '/v1/status') return Response.json(this.status())
    if (path.startsWith('/v1/adapters/')) return this.#putAdapter(path.split('/')[3]!, body)
    if (path.startsWith('/v1/datasets/')) {
      return this.#putDataset(path.split('/')[3]!.split('?')[0]!, body)
    }
    if (path === '/v1/score') return this.#score(body)
    if (path === '/v1/gradient') return this.#gradient(body)
    if (path === '/v1/measure') return this.#measure(body)
    if (path === '/tokenize') return this.#tokenize(body)
    if (path === '/v1/generate') return this.#generate(body, signal)
    return refuse(404, 'not_found', 'fatal')
  }

  status(): RunnerStatus {
    return {
      protocol_version: RUNNER_PROTOCOL_VERSION,
      runner_id: 'runner-double',
      model: {
        slug: this.slug,
        model_digest: this.modelDigest,
        build_digest: this.buildDigest,
        num_layers: GEOMETRY.numLayers,
        num_heads: GEOMETRY.numHeads,
        num_kv_heads: 1,
        head_dim: GEOMETRY.headDim,
        hidden_size: 8,
        vocab_size: 100,
        max_context: 2048,
      },
      ort_backend: 'c-api',
      limits: {
        max_rows: 16,
        max_waiting: 64,
        max_adapter_bytes: 1 << 20,
        max_resident_adapters: 64,
        max_prefix_cache_bytes: 0,
      },
      prefix_cache: { bytes: 0, blocks: 0 },
      load: { running: 0, waiting: 0, parked: 0 },
      job_share: { limit: 0.3, measured: 0 },
      resident_adapters: [...this.adapters.keys()],
    }
  }

  async #putAdapter(digest: string, bytes: Uint8Array): Promise<Response> {
    if ((await sha256Hex(bytes)) !== digest) return refuse(400, 'adapter_invalid', 'fatal')
    const decoded = decodeAdapter(bytes, GEOMETRY)
    if (!decoded.ok) return refuse(400, 'adapter_invalid', 'fatal')
    this.adapters.set(digest, bytes)
    return Response.json({ digest, scope: decoded.value.scope, layers: this.#layersOf(digest) })
  }

  async #putDataset(digest: string, bytes: Uint8Array): Promise<Response> {
    if ((await sha256Hex(bytes)) !== digest) return refuse(400, 'invalid_request', 'fatal')
    const dataset = datasetSchema.parse(JSON.parse(new TextDecoder().decode(bytes)))
    this.datasets.set(digest, dataset)
    return Response.json({
      digest,
      num_examples: dataset.examples.length,
      num_labels: isTargetDataset(dataset) ? 0 : dataset.labels.length,
      prompt_tokens: { total: dataset.examples.length * 10, longest: 10 },
      ...(isTargetDataset(dataset)
        ? { target_tokens: dataset.examples.map((own) => countTokens(this.#toText(own).target)) }
        : {}),
    })
  }

  #tokenize(body: Uint8Array): Response {
    const { prompt } = tokenizeRequestSchema.parse(JSON.parse(new TextDecoder().decode(body)))
    const tokens = Array.from(prompt, (character) => character.codePointAt(0)! % 100)
    const { max_context: max_model_len } = this.status().model
    return Response.json({ tokens, count: tokens.length, max_model_len })
  }

  /** A character is a token here, and the template adds ten. */
  #measure(body: Uint8Array): Response {
    const request = measureRequestSchema.parse(JSON.parse(new TextDecoder().decode(body)))
    const { max_context: maxContext } = this.status().model
    const numTokens = (example: (typeof request.examples)[number]) =>
      example.messages.reduce((sum, { content }) => sum + content.length, 10) +
      ('target' in example ? (example.target?.length ?? 0) : 0)
    const too_long = request.examples.flatMap((each, i) =>
      numTokens(each) > maxContext - 1 ? [i] : [],
    )
    return Response.json({ too_long })
  }

  #score(body: Uint8Array): Response {
    const split = decodeBinaryBody(body)!
    const header = scoreHeaderSchema.parse(JSON.parse(split.headerJson))
    if (header.build_digest !== undefined && header.build_digest !== this.buildDigest) {
      return refuse(409, 'build_mismatch', 'unserviceable')
    }
    const dataset = this.datasets.get(header.dataset)
    if (dataset === undefined) return refuse(404, 'dataset_not_resident', 'retryable')
    const perCandidate = header.layers.length * GEOMETRY.numHeads * (GEOMETRY.headDim / 2)
    const examples = header.examples ?? dataset.examples.map((_, i) => i)
    const log_probs = Array.from({ length: header.num_candidates }, (_, candidate) => {
      const angles = split.values.subarray(candidate * perCandidate, (candidate + 1) * perCandidate)
      return examples.map((example) => this.#scoresOf(dataset, example, angles))
    })
    return Response.json({ build_digest: this.buildDigest, log_probs })
  }

  /** A target has one value. */
  #scoresOf(dataset: Dataset, example: number, angles: Float32Array): number[] {
    return isTargetDataset(dataset)
      ? [this.scoreTarget(angles, this.#toText(dataset.examples[example]!))]
      : this.scoreLabels(angles, dataset.examples[example]!, dataset.labels)
  }

  #toText({ messages, target }: TargetDataset['examples'][number]): TargetExample {
    return { messages, target: this.textOf(target) }
  }

  /** The words that the double generated; each is one token. */
  #idOf(word: string): number {
    const known = this.#words.indexOf(word)
    return known >= 0 ? known : this.#words.push(word) - 1
  }

  #gradient(body: Uint8Array): Response {
    const split = decodeBinaryBody(body)!
    const header = gradientHeaderSchema.parse(JSON.parse(split.headerJson))
    if (header.build_digest !== undefined && header.build_digest !== this.buildDigest) {
      return refuse(409, 'build_mismatch', 'unserviceable')
    }
    const dataset = this.datasets.get(header.dataset)
    if (dataset === undefined) return refuse(404, 'dataset_not_resident', 'retryable')
    const examples = header.examples ?? dataset.examples.map((_, i) => i)
    const perCandidate = header.layers.length * GEOMETRY.numHeads * (GEOMETRY.headDim / 2)
    const numAngles = header.num_candidates * perCandidate
    const weights = split.values.subarray(header.has_log_scale ? 2 * numAngles : numAngles)
    const losses: number[] = []
    const logProbs: number[] = []
    const gradient: number[] = []
    for (let candidate = 0; candidate < header.num_candidates; candidate++) {
      const angles = split.values.subarray(candidate * perCandidate, (candidate + 1) * perCandidate)
      const own = weights.subarray(candidate * examples.length, (candidate + 1) * examples.length)
      const rows = examples.map((example) => {
        if (header.computed_examples?.includes(example) === false) return NaN
        const gold = isTargetDataset(dataset) ? 0 : dataset.examples[example]!.label
        return this.#scoresOf(dataset, example, angles)[gold]!
      })
      losses.push(rows.reduce((sum, logProb, i) => sum - (own[i] === 0 ? 0 : own[i]! * logProb), 0))
      logProbs.push(...rows)
      gradient.push(...this.slopes(angles, own))
    }
    const answer = {
      build_digest: this.buildDigest,
      num_candidates: header.num_candidates,
      num_examples: examples.length,
    }
    // The double's scores do not depend on scales.
    if (header.has_log_scale) gradient.push(...new Float32Array(numAngles))
    const values = Float32Array.of(...losses, ...logProbs, ...gradient)
    return new Response(encodeBinaryBody(answer, values))
  }

  async #generate(body: Uint8Array, signal: AbortSignal | null): Promise<Response> {
    const request = generateRequestSchema.parse(JSON.parse(new TextDecoder().decode(body)))
    this.generateRequests.push(request)
    const missing = request.arms
      .flatMap((arm) => arm.adapters.map(({ digest }) => digest))
      .filter((digest) => !this.adapters.has(digest))
    if (missing.length > 0) {
      return refuse(409, 'adapter_not_resident', 'retryable', { missing })
    }
    const events: GenerateEvent[] = []
    for (const [arm, spec] of request.arms.entries()) {
      events.push(...(await this.#eventsOf(arm, spec, request)))
    }
    events.push({ event: 'done', num_prefills: 1 })
    return this.#stream(this.editEvents(events), signal)
  }

  async #eventsOf(arm: number, spec: Arm, request: GenerateRequest): Promise<GenerateEvent[]> {
    const applied: Applied = {
      adapters: spec.adapters,
      scope: spec.scope,
      rotate_from: spec.rotate_from ?? null,
      layers: [
        ...new Set(
          spec.adapters.flatMap(({ digest, weight }) =>
            weight === 0 ? [] : this.#layersOf(digest),
          ),
        ),
      ].sort((a, b) => a - b),
      model_digest: this.modelDigest,
      build_digest: this.buildDigest,
      bias_digest: spec.bias === undefined ? null : await digestOfBias(spec.bias),
    }
    const labels = request.choice?.labels
    const chosen = this.chosenLabel(request, spec)
    const words = labels === undefined ? this.words(spec) : [labels[chosen]!]
    return [
      { event: 'accepted', arm, applied, prompt_tokens: 7 },
      ...(request.echo ? [promptOf(request, arm)] : []),
      ...(labels === undefined
        ? []
        : [
            {
              event: 'labels' as const,
              arm,
              labels: labels.map((label, i) => ({
                label,
                probability: i === chosen ? 1 : 0,
                log_probability: i === chosen ? 0 : -50,
              })),
            },
          ]),
      ...words.map((text) => ({
        event: 'token' as const,
        arm,
        text,
        ids: [this.#idOf(text)],
        ...(request.sampling.logprobs === undefined
          ? {}
          : { logprobs: [logprobOf(text, request.sampling.logprobs)] }),
      })),
      {
        event: 'end',
        arm,
        finish_reason: 'stop',
        usage: { prompt_tokens: 7, completion_tokens: words.length, cached_tokens: 4 },
        applied,
        first_token_ms: 1,
        total_ms: 2,
      },
    ]
  }

  #stream(events: readonly (GenerateEvent | 'die')[], signal: AbortSignal | null): Response {
    let next = 0
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const event = events[next++]
        const delayMs = event === undefined ? 0 : this.delayMs(event)
        if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs))
        if (event === undefined || event === 'die') controller.close()
        else {
          const bytes = new TextEncoder().encode(`${JSON.stringify(event)}\n`)
          const step = this.isCutFine ? 1 : bytes.length
          for (let at = 0; at < bytes.length; at += step) {
            controller.enqueue(bytes.slice(at, at + step))
          }
        }
      },
      cancel: () => {
        if (next < events.length) this.numAborted += 1
      },
    })
    signal?.addEventListener('abort', () => {
      if (next < events.length) this.numAborted += 1
      next = events.length
    })
    return new Response(body, { headers: { 'content-type': 'application/x-ndjson' } })
  }

  #layersOf(digest: string): number[] {
    const decoded = decodeAdapter(this.adapters.get(digest)!, GEOMETRY)
    return decoded.ok ? [...decoded.value.rotation.layers.keys()] : []
  }
}

/** Echoes the prompt as tokens of one character each. */
function promptOf({ prompt, sampling }: GenerateRequest, arm: number): GenerateEvent {
  const text = typeof prompt === 'string' ? prompt : String.fromCharCode(...(prompt ?? []))
  const { logprobs } = sampling
  const tokens =
    logprobs === undefined
      ? []
      : Array.from(text, (char, i) => ({
          ...logprobOf(char, i === 0 ? 0 : logprobs),
          ...(i === 0 ? { logprob: null } : {}),
        }))
  return { event: 'prompt', arm, text, tokens }
}

const logprobOf = (text: string, numTop: number): PositionLogprob => ({
  id: text.length,
  token: text,
  bytes: [...new TextEncoder().encode(text)],
  logprob: -0.25,
  top: Array.from({ length: numTop }, (_, i) => ({
    id: i,
    token: `alt ${i}`,
    bytes: [i],
    logprob: -1 - i,
  })),
})

/** A target's tokens in the double are its words and the end of the turn. */
export const countTokens = (target: string): number => target.split(' ').length + 1

/** Scores positive first angles higher, as `defaultScores` does. */
const defaultTargetScore: RunnerDouble['scoreTarget'] = (angles, { target }) =>
  countTokens(target) * (Math.tanh(angles[0] ?? 0) - 2)

/** Scores small positive first angles higher, so that there is something to learn. */
function defaultScores(
  angles: Float32Array,
  example: LabelDataset['examples'][number],
  labels: readonly string[],
): number[] {
  const gain = Math.tanh(angles[0] ?? 0)
  const logits = labels.map((_, i) => (i === example.label ? gain : 0.1 * i))
  const norm = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0))
  return logits.map((logit) => logit - norm)
}

/** The gradient of the default scores: a larger first angle is better. */
function defaultSlopes(angles: Float32Array, weights: Float32Array): Float32Array {
  const slopes = new Float32Array(angles.length)
  slopes[0] = -weights.reduce((sum, weight) => sum + weight, 0) / Math.cosh(angles[0]!) ** 2
  return slopes
}

export function refuse(
  status: number,
  code: RunnerError['code'],
  outcome: RunnerError['outcome'],
  extra: Partial<RunnerError> = {},
): Response {
  return Response.json(
    { error: { code, message: `double says ${code}`, outcome, ...extra } },
    { status },
  )
}
