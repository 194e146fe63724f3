/**
 * Sends all kinds of requests to a real runner at once, for minutes: tiers, adapters of both
 * scopes, arms, shared prompts, choices, echoes, deadlines, callers that leave, and a job's scores.
 * It compares every answer with the same request's lone run, and prints memory at intervals and all
 * differences.
 * `npm run bench -- soak [minutes, 15] [requests at once, 24]`
 */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomRotationBytes } from '../fixtures/adapter-bytes.ts'
import { startRunnerProcess, type RunnerProcess } from '../fixtures/runner-process.ts'
import { createRng } from '../../gpu-runner/sampling/rng.ts'
import { type Arm, type GenerateEvent, type GenerateRequest } from '../../src/protocol/runner.ts'
import { encodeScoreBody, type Dataset } from '../../src/protocol/runner-scoring.ts'

const DEFAULT_MINUTES = 15
const DEFAULT_AT_ONCE = 24
const NUM_WISHES = 40
const NUM_ADAPTERS = 12
const REPORT_INTERVAL_MS = 30_000
/** Shares of requests whose caller disconnects, and whose deadline is too short. */
const SHARE_LEAVING = 0.1
const SHARE_LATE = 0.05
const SENTENCE = 'The river runs under seven old stone bridges while engineers count coins. '

type Random = () => number
type Adapter = { readonly digest: string; readonly scope: 'generated' | 'all' }

const counts = {
  requests: 0,
  whole: 0,
  left: 0,
  late: 0,
  refused: 0,
  tokens: 0,
  scores: 0,
  differing_answers: 0,
  differing_scores: 0,
  failed: 0,
}

export async function run(args: readonly string[]): Promise<void> {
  const minutes = Number(args[0] ?? DEFAULT_MINUTES)
  const numAtOnce = Number(args[1] ?? DEFAULT_AT_ONCE)
  const runner = await startRunnerProcess({ ARCANA_LOG_LEVEL: 'warn' }, ['--profile'])
  const startMs = performance.now()
  const report = (event: string): void => {
    const seconds = Math.round((performance.now() - startMs) / 1000)
    console.log(JSON.stringify({ event, seconds, ...runner.memory(), ...counts }))
  }
  try {
    const random = createRng(4)
    const adapters = await pushAdapters(runner)
    const wishes = Array.from({ length: NUM_WISHES }, () => createWish(random, adapters))
    const alone: string[] = []
    for (const wish of wishes) alone.push(answerOf(await collect(runner, wish)))
    const score = await prepareScore(runner)
    const expectedScore = await score()
    report('lone runs done')

    const endMs = performance.now() + minutes * 60_000
    const isOver = (): boolean => performance.now() >= endMs
    const ask = async (): Promise<void> => {
      while (!isOver()) await askOnce(runner, random, wishes, alone)
    }
    const job = async (): Promise<void> => {
      while (!isOver()) {
        counts.scores += 1
        if ((await score()) !== expectedScore) counts.differing_scores += 1
      }
    }
    const watch = async (): Promise<void> => {
      while (!isOver()) {
        await sleep(Math.min(REPORT_INTERVAL_MS, Math.max(0, endMs - performance.now())))
        report('running')
      }
    }
    await Promise.all([...Array.from({ length: numAtOnce }, ask), job(), watch()])
    report('over')
    const text = await (await runner.call('/metrics')).text()
    const wanted =
      /^arcana_(rows_(running|parked|preempted_total)|requests_\w+|slots_leased|parked_kv_bytes|prefix_cache_(bytes|hits_total)|job_share\w*|engine_seconds_total\{.*) .*/gm
    for (const line of text.match(wanted) ?? []) console.log(line)
    if (counts.differing_answers + counts.differing_scores + counts.failed > 0) {
      process.exitCode = 1
    }
  } finally {
    console.log(await runner.stop())
  }
}

async function askOnce(
  runner: RunnerProcess,
  random: Random,
  wishes: readonly GenerateRequest[],
  alone: readonly string[],
): Promise<void> {
  const index = Math.floor(random() * wishes.length)
  const tier = (['flex', 'flex', 'default', 'priority'] as const)[Math.floor(random() * 4)]!
  const fate = random()
  const isLeaving = fate < SHARE_LEAVING
  const isLate = !isLeaving && fate < SHARE_LEAVING + SHARE_LATE
  const controller = new AbortController()
  const numHeard = Math.floor(random() * 10)
  const wire = {
    ...wishes[index]!,
    service_tier: tier,
    ...(random() < 0.7 ? { tenant: `tenant-${Math.floor(random() * 3)}` } : {}),
    ...(isLate ? { timeout_ms: 1 + Math.floor(random() * 400) } : {}),
  }
  counts.requests += 1
  const events: GenerateEvent[] = []
  try {
    for await (const event of runner.generate(wire, controller.signal)) {
      events.push(event)
      if (isLeaving && events.length > numHeard) controller.abort()
    }
  } catch (error) {
    if (isLeaving && controller.signal.aborted) counts.left += 1
    else if (String(error).includes('over_capacity')) {
      counts.refused += 1
      await sleep(1000)
    } else {
      counts.failed += 1
      console.log(JSON.stringify({ event: 'failure', error: String(error) }))
    }
    return
  }
  const last = events.at(-1)
  if (last?.event === 'error' && last.error.code === 'deadline_exceeded') counts.late += 1
  else if (last?.event !== 'done') {
    counts.failed += 1
    console.log(JSON.stringify({ event: 'failure', last }))
  } else {
    counts.whole += 1
    counts.tokens += events.filter(({ event }) => event === 'token').length
    if (answerOf(events) === alone[index]) return
    counts.differing_answers += 1
    console.log(JSON.stringify({ event: 'difference', wish: index, tier }))
  }
}

/** The parts of an answer that must not depend on other requests: text, tokens, log probabilities. */
function answerOf(events: readonly GenerateEvent[]): string {
  const said = events.flatMap((event): [number, unknown][] => {
    if (event.event === 'token') return [[event.arm, [event.ids, event.logprobs]]]
    if (event.event === 'labels') return [[event.arm, event.labels]]
    return event.event === 'prompt' ? [[event.arm, event.tokens]] : []
  })
  return JSON.stringify(said.sort(([a], [b]) => a - b))
}

async function collect(runner: RunnerProcess, wire: GenerateRequest): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = []
  for await (const event of runner.generate(wire)) events.push(event)
  return events
}

async function pushAdapters(runner: RunnerProcess): Promise<Adapter[]> {
  const adapters: Adapter[] = []
  for (let seed = 0; seed < NUM_ADAPTERS; seed++) {
    const scope = seed % 4 === 3 ? 'all' : 'generated'
    const { digest, bytes } = await randomRotationBytes(seed, scope)
    const { ok } = await runner.call(`/v1/adapters/${digest}`, { method: 'PUT', body: bytes })
    if (!ok) throw new Error(`adapter ${seed} was refused`)
    adapters.push({ digest, scope })
  }
  return adapters
}

function createWish(random: Random, adapters: readonly Adapter[]): GenerateRequest {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
  const text = `${SENTENCE.repeat(pick([0, 1, 2, 4, 12, 30]))}Say ${pick(['one', 'two', 'three'])}.`
  const kind = pick(['chat', 'chat', 'chat', 'choice', 'echo'] as const)
  const arms = Array.from({ length: pick([1, 1, 1, 2, 4]) }, (): Arm => {
    const { digest, scope } = pick(adapters)
    const isBase = kind === 'echo' || random() < 0.3
    return {
      adapters: isBase ? [] : [{ digest, weight: pick([0.5, 1, -1]) }],
      scope: isBase ? 'generated' : scope,
      seed: Math.floor(random() * 1e6),
    }
  })
  return {
    request_id: 'soak',
    ...(kind === 'echo'
      ? { prompt: text, echo: true }
      : { messages: [{ role: 'user', content: text }] }),
    arms,
    sampling: {
      max_tokens: 1 + Math.floor(random() * 48),
      temperature: pick([0, 0.9]),
      top_p: pick([1, 0.9]),
      stop: [],
      ...(kind !== 'choice' && random() < 0.5 ? { logprobs: 3, repetition_penalty: 1.2 } : {}),
    },
    ...(kind === 'choice' ? { choice: { labels: ['one', 'two', 'two hundred'] } } : {}),
  }
}

/** Prepares a job's call to repeat. @returns a function that makes it and returns the scores as text */
async function prepareScore(runner: RunnerProcess): Promise<() => Promise<string>> {
  const dataset: Dataset = {
    labels: ['yes', 'no', 'perhaps so'],
    examples: Array.from({ length: 40 }, (_, i) => ({
      messages: [{ role: 'user', content: `Is ${i} an even number? Say yes or no.` }],
      label: i % 2,
    })),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(dataset))
  const digest = createHash('sha256').update(bytes).digest('hex')
  const put = await runner.call(`/v1/datasets/${digest}`, { method: 'PUT', body: bytes })
  if (!put.ok) throw new Error(await put.text())
  const body = encodeScoreBody(
    { dataset: digest, scope: 'generated', num_candidates: 1, layers: [], has_log_scale: false },
    new Float32Array(0),
  )
  return async () => {
    const response = await runner.call('/v1/score', { method: 'POST', body })
    if (!response.ok) throw new Error(await response.text())
    return response.text()
  }
}
