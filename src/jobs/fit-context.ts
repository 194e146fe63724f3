import { askRunner } from '../dispatch/ask-runner.ts'
import type { RunnerPool } from '../dispatch/runner-pool.ts'
import { servedModel } from '../dispatch/served-model.ts'
import type { TrainingExample } from '../files/training-line.ts'
import { ApiError, invalidField, invalidRequest } from '../protocol/openai/error.ts'
import type { TooLongLines } from '../protocol/openai/files.ts'
import type { JobWarning } from '../protocol/openai/job-report.ts'
import type { CreateJob, TooLong } from '../protocol/openai/fine-tuning.ts'
import { MAX_DATASET_EXAMPLES, type MeasureRequest } from '../protocol/runner-scoring.ts'
import { applyFrame, type Frame } from '../tasks/frame.ts'
import { warnOfLongLabels } from './long-labels.ts'
import { buildDatasets, type JobDatasets } from './dataset.ts'
import { objectiveOf } from './objectives/objectives.ts'
import type { NumberedExample } from '../files/read-examples.ts'

type Entry = MeasureRequest['examples'][number]
type LabelEntry = Extract<MeasureRequest, { labels: unknown }>['examples'][number]

/** Chat templates add far fewer tokens. A text has at most as many tokens as bytes. */
const MAX_TEMPLATE_TOKENS = 512
/** Shorter texts fit the context of any model. */
const ALWAYS_FITS_BYTES = 512
/** A cut text may be this many characters, or this share of its length, shorter than necessary. */
const CUT_CHARS = 8
const CUT_SHARE = 1 / 256
const MAX_NAMED_LINES = 10

const utf8 = new TextEncoder()
const bytesOf = ({ messages, ...answer }: Entry): number =>
  messages.reduce((sum, { content }) => sum + utf8.encode(content).length, 0) +
  ('target' in answer && answer.target !== undefined ? utf8.encode(answer.target).length : 0)

/** Finds the entries that do not fit the context of the served model. */
class ContextMeasure {
  readonly #pool: RunnerPool
  readonly #model: string
  #maxContext: number | null = null

  constructor(pool: RunnerPool, model: string) {
    this.#pool = pool
    this.#model = model
  }

  /**
   * @param labels the labels that may follow a prompt; null if its target does
   * @returns the indices of entries that do not fit
   * @throws {ApiError} 503 if no runner can tell
   */
  async findTooLong(
    entries: readonly Entry[],
    labels: readonly string[] | null,
  ): Promise<number[]> {
    const sizes = entries.map(bytesOf)
    if (!sizes.some((size) => size > ALWAYS_FITS_BYTES)) return []
    const maxContext = await this.maxContext()
    const longest = Math.max(0, ...(labels ?? []).map((label) => utf8.encode(label).length))
    const limit = maxContext - MAX_TEMPLATE_TOKENS - longest
    const suspects = entries.flatMap((_, i) => (sizes[i]! > limit ? [i] : []))
    const found: number[] = []
    for (let from = 0; from < suspects.length; from += MAX_DATASET_EXAMPLES) {
      const part = suspects.slice(from, from + MAX_DATASET_EXAMPLES)
      const examples = part.map((i) => entries[i]!)
      const request: MeasureRequest =
        labels === null ? { examples } : { labels: [...labels], examples: examples as LabelEntry[] }
      const { too_long: tooLong } = await askRunner(this.#pool, this.#model, (client) =>
        client.measure(request),
      )
      found.push(...tooLong.map((i) => part[i]!))
    }
    return found
  }

  async maxContext(): Promise<number> {
    return (this.#maxContext ??= (await servedModel(this.#pool, this.#model)).max_context)
  }
}

export type Fitted = {
  readonly examples: readonly NumberedExample[]
  readonly warning: JobWarning | null
}

/**
 * Makes a job's examples fit the context. Those that do not fit are refused, dropped or truncated,
 * as the method says.
 * @param entries what the examples became in the dataset, two for each pair
 * @returns the same examples if all of them fit
 * @throws {ApiError} 400 naming the lines that do not fit
 */
async function fitContext(
  measure: ContextMeasure,
  examples: readonly NumberedExample[],
  built: Pick<JobDatasets, 'frame' | 'labels' | 'objective'>,
  entries: readonly Entry[],
  tooLong: TooLong,
  param: string,
): Promise<Fitted> {
  const labels = objectiveOf(built).hasLabels ? built.labels : null
  const numEach = entries.length / examples.length
  const found = new Set(
    (await measure.findTooLong(entries, labels)).map((i) => Math.floor(i / numEach)),
  )
  if (found.size === 0) return { examples, warning: null }
  const linesOf = (indices: Iterable<number>) => [...indices].map((i) => examples[i]!.line)
  const refuse = async (indices: Iterable<number>, advice: string) =>
    invalidRequest(
      `Invalid '${param}': ${named(linesOf(indices))} longer than the model's context of ` +
        `${await measure.maxContext()} tokens${advice}.`,
      param,
      'context_length_exceeded',
    )
  if (tooLong === 'error') {
    const ways =
      'set method.rotation.too_long to "drop" to leave them out, or to "truncate" to cut them'
    throw await refuse(found, `; ${ways}`)
  }
  if (tooLong === 'drop') {
    return {
      examples: examples.filter((_, i) => !found.has(i)),
      warning: warn('dropped_lines', linesOf(found), 'longer than the context and left out'),
    }
  }
  const cuts = [...found].map((i) => ({ i, fits: 0, over: inputOf(examples[i]!.example).length }))
  const cutOf = (i: number, numChars: number): NumberedExample => ({
    ...examples[i]!,
    example: cut(examples[i]!.example, numChars),
  })
  /** Finds the cuts that are still too long. @returns their places in `cuts` */
  const tryCuts = async (lengths: readonly number[]): Promise<ReadonlySet<number>> => {
    const tried = cuts.flatMap(({ i }, at) =>
      entries.slice(i * numEach, (i + 1) * numEach).map((entry) => ({
        ...entry,
        messages: framed(built.frame, cutOf(i, lengths[at]!).example),
      })),
    )
    const over = await measure.findTooLong(tried, labels)
    return new Set(over.map((at) => Math.floor(at / numEach)))
  }
  const hopeless = await tryCuts(cuts.map(() => 0))
  if (hopeless.size > 0) {
    const indices = [...hopeless].map((at) => cuts[at]!.i)
    throw await refuse(indices, ', even with an empty input')
  }
  while (cuts.some(({ fits, over }) => over - fits > Math.max(CUT_CHARS, over * CUT_SHARE))) {
    const lengths = cuts.map(({ fits, over }) => Math.floor((fits + over) / 2))
    const over = await tryCuts(lengths)
    for (const [at, own] of cuts.entries()) own[over.has(at) ? 'over' : 'fits'] = lengths[at]!
  }
  const kept = new Map(cuts.map(({ i, fits }) => [i, fits]))
  return {
    examples: examples.map((own, i) => (kept.has(i) ? cutOf(i, kept.get(i)!) : own)),
    warning: warn(
      'truncated_lines',
      linesOf(found),
      'longer than the context and cut at the input’s end',
    ),
  }
}

/**
 * Builds a job's datasets from the examples that fit the context.
 * @throws {ApiError} 400; 503 if examples are to be dropped or cut and no runner can tell which
 */
export async function buildFittedDatasets(
  pool: RunnerPool,
  training: readonly NumberedExample[],
  validation: readonly NumberedExample[] | null,
  request: CreateJob,
): Promise<JobDatasets> {
  const built = buildOrRefuse(training, validation, request)
  const { tooLong } = request
  const measure = new ContextMeasure(pool, request.model)
  const fit = async (examples: readonly NumberedExample[], set: BuiltSet, param: string) => {
    const fitted = await fitContext(measure, examples, built, entriesOf(set), tooLong, param)
    if (fitted.examples.length > 0) return fitted
    throw invalidField(param, "every line is longer than the model's context")
  }
  try {
    const fittedTraining = await fit(training, built.training, 'training_file')
    const fittedValidation =
      validation === null || built.validation === null
        ? null
        : await fit(validation, built.validation, 'validation_file')
    const warningsOfFit = [fittedTraining.warning, fittedValidation?.warning ?? null].filter(
      (warning) => warning !== null,
    )
    const { objective, labels } = built
    const longLabels = await warnOfLongLabels(pool, request.model, labels)
    const datasets =
      warningsOfFit.length === 0
        ? built
        : buildOrRefuse(fittedTraining.examples, fittedValidation?.examples ?? null, {
            ...request,
            objective,
          })
    const warnings = [
      ...datasets.warnings,
      ...warningsOfFit,
      ...(longLabels === null ? [] : [longLabels]),
    ]
    return { ...datasets, warnings }
  } catch (error) {
    // The job's first step waits for a runner, which then refuses what does not fit.
    if (tooLong === 'error' && error instanceof ApiError && error.status === 503) return built
    throw error
  }
}

type BuiltSet = JobDatasets['training']
const entriesOf = (set: BuiltSet): Entry[] => {
  if ('labels' in set) return [...set.examples]
  return set.examples.map(({ messages, target }) => ({
    messages: [...messages],
    // A job with a grader generates its answers, so its targets take no room in the context.
    ...('input' in set.examples[0]! || typeof target !== 'string' ? {} : { target }),
  }))
}

function buildOrRefuse(
  training: readonly NumberedExample[],
  validation: readonly NumberedExample[] | null,
  request: Parameters<typeof buildDatasets>[2],
): JobDatasets {
  const built = buildDatasets(training, validation, request)
  if (built.ok) return built.value
  const { param, message, reason } = built.error
  throw invalidField(param, message, reason)
}

/** An upload's long lines are kept in memory up to this size; a Worker has 128 MB. */
const MAX_HELD_BYTES = 8 * 1024 * 1024

/** Gathers the lines of an upload that may not fit the context, and finds those that do not. */
export class LongLines {
  readonly #measure: ContextMeasure
  readonly #maxContext: number
  readonly #entries: Entry[] = []
  readonly #lines: number[] = []
  #heldBytes = 0

  private constructor(measure: ContextMeasure, maxContext: number) {
    this.#measure = measure
    this.#maxContext = maxContext
  }

  /** @returns null if no runner can tell, which is no reason to refuse an upload */
  static async create(pool: RunnerPool, model: string): Promise<LongLines | null> {
    const measure = new ContextMeasure(pool, model)
    try {
      return new LongLines(measure, await measure.maxContext())
    } catch {
      return null
    }
  }

  take(example: TrainingExample, line: number): void {
    const { system, messages, answer } = example
    const frame = { instructions: system, position: 'before' } as const
    const entry: Entry = {
      messages: [...applyFrame(frame, messages).messages],
      ...(answer === '' ? {} : { target: answer }),
    }
    const size = bytesOf(entry)
    if (size + MAX_TEMPLATE_TOKENS <= this.#maxContext) return
    this.#heldBytes += size
    if (this.#heldBytes > MAX_HELD_BYTES) return
    this.#entries.push(entry)
    this.#lines.push(line)
  }

  /** @returns null if no line is too long, or no runner can tell */
  async describe(): Promise<TooLongLines | null> {
    try {
      const found = await this.#measure.findTooLong(this.#entries, null)
      if (found.length === 0) return null
      return {
        max_context: this.#maxContext,
        num_lines: found.length,
        lines: found.slice(0, MAX_TOLD_LINES).map((i) => this.#lines[i]!),
        is_complete: this.#heldBytes <= MAX_HELD_BYTES,
      }
    } catch {
      return null
    }
  }
}
const MAX_TOLD_LINES = 100

const framed = (frame: Frame, { messages }: TrainingExample) => [
  ...applyFrame(frame, messages).messages,
]

const lastUser = ({ messages }: TrainingExample): number =>
  messages.findLastIndex(({ role }) => role === 'user')
const inputOf = (example: TrainingExample): string => example.messages[lastUser(example)]!.content

/** Shortens the last user message, but never to half of a surrogate pair. */
function cut(example: TrainingExample, numChars: number): TrainingExample {
  const at = lastUser(example)
  const content = inputOf(example)
    .slice(0, numChars)
    .replace(/[\uD800-\uDBFF]$/u, '')
  return {
    ...example,
    messages: example.messages.map((own, i) => (i === at ? { ...own, content } : own)),
  }
}

function named(lines: readonly number[]): string {
  const shown = lines.slice(0, MAX_NAMED_LINES).join(', ')
  const more = lines.length > MAX_NAMED_LINES ? ` and ${lines.length - MAX_NAMED_LINES} more` : ''
  return lines.length === 1 ? `line ${shown} is` : `lines ${shown}${more} are`
}

const warn = (code: JobWarning['code'], lines: readonly number[], what: string): JobWarning => ({
  code,
  message: `${named(lines)} ${what}.`.replace(/^l/, 'L'),
  lines: lines.slice(0, MAX_NAMED_LINES),
})
