/**
 * Scores texts through `POST /v1/completions` with `echo`, under the base model and under a task
 * that is unrelated to them, as a misrouted request would be. Under scope `generated` the
 * adapter turns the last token of the given text and everything after it, as it would if the model
 * went on by itself.
 */
import type { CompletionLogprobs } from '../../../src/protocol/openai/completions.ts'
import type { TaskWithVersions } from '../../../src/protocol/arcana/tasks.ts'
import { pairedDifference, type PairedDifference } from '../../../adapters/statistics/paired.ts'
import type { DamageSet, Item } from './sets.ts'

/** Posts to, or gets from, a path under /v1. @throws {Error} any status that is not 2xx */
export type Call = (
  path: string,
  body?: object,
  headers?: Readonly<Record<string, string>>,
) => Promise<unknown>

/** The score of one continuation. */
type Scored = {
  readonly logProb: number
  readonly numTokens: number
  /** Whether each of its tokens was the likeliest. */
  readonly isGreedy: boolean
  /** Token log probabilities as received, to compare bit for bit. */
  readonly raw: readonly number[]
  readonly contextTokens: number
}

export type Damage = {
  readonly set: string
  readonly task: string
  readonly numItems: number
  /** Null for a set that has only texts. */
  readonly accuracy: {
    readonly base: number
    readonly adapter: number
    readonly difference: PairedDifference
  } | null
  /** Perplexity of the right continuation; null for a set of choices. The difference is in nats. */
  readonly perplexity: {
    readonly base: number
    readonly adapter: number
    readonly difference: PairedDifference
  } | null
  /**
   * Largest difference of any token's log probability between the base model asked before and after
   * the task was. A difference other than 0 means that the task leaks into the base model.
   */
  readonly baseAfterwards: number
}

const MODEL = 'smollm2-135m-instruct'
/** Number of texts in one request. */
const BATCH_LEN = 32
/** Number of items for which the base model is asked again. */
const NUM_REPEATED_ITEMS = 20

/** @param tasks names or versions, as `x-task` takes them */
export async function measureDamage(
  call: Call,
  tasks: readonly string[],
  set: DamageSet,
): Promise<Damage[]> {
  const { items } = set
  if (items.length === 0) throw new Error(`${set.name} has no items`)
  const base = await scoreItems(call, set, items, null)
  const results: Damage[] = []
  for (const task of tasks) {
    const adapter = await scoreItems(call, set, items, {
      task,
      scope: await scopeOf(call, task),
      base,
    })
    const again = await scoreItems(call, set, items.slice(0, NUM_REPEATED_ITEMS), null)
    results.push({
      set: set.name,
      task,
      numItems: items.length,
      accuracy: set.kind === 'text' ? null : accuracyOf(set, base, adapter),
      perplexity: set.kind === 'choice' ? null : perplexityOf(base, adapter),
      baseAfterwards: largestDifference(base.slice(0, again.length), again),
    })
  }
  return results
}

async function scoreItems(
  call: Call,
  set: DamageSet,
  items: readonly Item[],
  under: {
    readonly task: string
    readonly scope: string
    readonly base: readonly (readonly Scored[])[]
  } | null,
): Promise<Scored[][]> {
  const texts = items.flatMap((item, i) =>
    item.continuations.map((continuation, k) => ({
      prompt: item.context + continuation,
      contextLen: item.context.length,
      rotateFrom: under?.scope === 'generated' ? under.base[i]![k]!.contextTokens - 1 : 0,
    })),
  )
  const scored: Scored[] = []
  for (let at = 0; at < texts.length; at += BATCH_LEN) {
    const batch = texts.slice(at, at + BATCH_LEN)
    const answer = (await call(
      '/completions',
      {
        model: MODEL,
        prompt: batch.map(({ prompt }) => prompt),
        max_tokens: 0,
        echo: true,
        logprobs: set.kind === 'target' ? 1 : 0,
        ...(under === null ? {} : { rotate_from: batch.map(({ rotateFrom }) => rotateFrom) }),
      },
      under === null ? {} : { 'x-task': under.task },
    )) as { choices: { logprobs: CompletionLogprobs }[] }
    batch.forEach(({ contextLen, prompt }, i) => {
      scored.push(scoreOf(answer.choices[i]!.logprobs, contextLen, prompt.length))
    })
  }
  let next = 0
  return items.map(({ continuations }) => continuations.map(() => scored[next++]!))
}

/** The tokens of the text that begin in the continuation. */
function scoreOf(logprobs: CompletionLogprobs, contextLen: number, textLen: number): Scored {
  const places = logprobs.text_offset.flatMap((offset, i) =>
    offset >= contextLen && offset < textLen ? [i] : [],
  )
  const raw = places.map((i) => logprobs.token_logprobs[i]!)
  return {
    logProb: raw.reduce((sum, value) => sum + value, 0),
    numTokens: places.length,
    isGreedy: places.every((i) =>
      Object.values(logprobs.top_logprobs[i] ?? {}).every(
        (value) => value <= logprobs.token_logprobs[i]!,
      ),
    ),
    raw,
    contextTokens: places[0]!,
  }
}

function accuracyOf(
  set: DamageSet,
  base: readonly (readonly Scored[])[],
  adapter: readonly (readonly Scored[])[],
): Damage['accuracy'] {
  const hits = (scores: readonly (readonly Scored[])[]) =>
    scores.map((choices, i) => Number(isRight(set, set.items[i]!, choices)))
  const [a, b] = [hits(base), hits(adapter)]
  return { base: mean(a), adapter: mean(b), difference: pairedDifference(a, b) }
}

function isRight(set: DamageSet, item: Item, choices: readonly Scored[]): boolean {
  if (set.kind === 'target') return choices[0]!.isGreedy
  const valueOf = ({ logProb }: Scored, k: number): number =>
    set.perCharacter ? logProb / item.continuations[k]!.length : logProb
  const values = choices.map(valueOf)
  return values.indexOf(Math.max(...values)) === item.gold
}

function perplexityOf(
  base: readonly (readonly Scored[])[],
  adapter: readonly (readonly Scored[])[],
): Damage['perplexity'] {
  const losses = (scores: readonly (readonly Scored[])[]) => scores.map(([one]) => -one!.logProb)
  const sizes = base.map(([one]) => one!.numTokens)
  const numTokens = sizes.reduce((sum, size) => sum + size, 0)
  const [a, b] = [losses(base), losses(adapter)]
  const perplexity = (values: number[]) => Math.exp(values.reduce((s, v) => s + v, 0) / numTokens)
  return {
    base: perplexity(a),
    adapter: perplexity(b),
    difference: pairedDifference(a, b, sizes),
  }
}

function largestDifference(
  a: readonly (readonly Scored[])[],
  b: readonly (readonly Scored[])[],
): number {
  let largest = 0
  a.forEach((choices, i) => {
    choices.forEach(({ raw }, k) => {
      raw.forEach((value, t) => {
        largest = Math.max(largest, Math.abs(value - b[i]![k]!.raw[t]!))
      })
    })
  })
  return largest
}

/** Of `NAME` or `NAME@VERSION`; under scope `all` every token is rotated. */
async function scopeOf(call: Call, task: string): Promise<string> {
  const [name, version] = task.split('@') as [string, string?]
  const found = (await call(`/tasks/${name}`)) as TaskWithVersions
  const number = version === undefined ? found.live_version : Number(version)
  const one = found.versions.find((candidate) => candidate.version === number)
  if (one === undefined) throw new Error(`no version ${task}`)
  return one.scope
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
