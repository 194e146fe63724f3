/**
 * `npm run demo` needs a running `npm start`. It learns a task from twenty labelled news lines, and
 * asks the base model and the task about all other lines.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ComparedArm } from '../../protocol/arcana/compare.ts'
import type { ArcanaProof } from '../../protocol/openai/chat-completions.ts'
import type { FineTuningJob } from '../../protocol/openai/fine-tuning.ts'
import { Client, DemoError, readClientConfig } from './client.ts'
import { LABELS, readNews, splitNews, toJsonLines, type NewsLine } from './news.ts'
import { formatOutcomes, ProgressBar } from './print.ts'
import { bestLabel, confusionOf, labelBias } from './score.ts'

const TASK = 'news-demo'
const INSTRUCTIONS =
  'You are a news classifier. Answer with the category only: World, Sports, Business or Science.'
const TRAINING_PER_CLASS = 5
const SEED = 0
const POLL_INTERVAL_MS = 500
/** Requests at a time: enough to fill the runner's batch, few enough for any gateway. */
const CONCURRENCY = 8

async function main(): Promise<void> {
  const client = new Client(await readClientConfig(process.env))
  const startedAtMs = performance.now()
  const model = await client.baseModel()
  const { training, test } = splitNews(await readNews(), TRAINING_PER_CLASS)
  console.log(
    `${model}: ${training.length} news lines to learn from (${TRAINING_PER_CLASS} a class), ` +
      `${test.length} others to be asked about\n`,
  )

  const job = await learn(client, model, training)
  await askOneOfEach(client, model, test)

  const bar = new ProgressBar('asking')
  const all = [...training, ...test]
  let numAsked = 0
  const answers = await mapConcurrently(all, CONCURRENCY, async ({ input }) => {
    const { arms } = await client.compare(input, ['base', TASK])
    bar.update(++numAsked, all.length)
    return { base: logProbsOf(arms[0]!), adapter: logProbsOf(arms[1]!), arms }
  })
  bar.finish()

  // The bias is estimated on the inputs of the training lines only.
  const bias = labelBias(answers.slice(0, training.length).map(({ base }) => base))
  const noBias = LABELS.map(() => 0)
  const tested = answers.slice(training.length)
  const right = test.map(({ label }) => LABELS.indexOf(label))
  const outcome = (name: string, answered: number[]) => ({
    name,
    confusion: confusionOf(right, answered, LABELS.length),
  })
  console.log(`\naccuracy on ${test.length} lines that the job never saw\n`)
  console.log(
    formatOutcomes(
      [
        outcome(
          'base',
          tested.map(({ base }) => bestLabel(base, noBias)),
        ),
        outcome(
          'base, calibrated',
          tested.map(({ base }) => bestLabel(base, bias)),
        ),
        outcome(
          `x-task: ${TASK}`,
          tested.map(({ arms }) => answerOf(arms[1]!)),
        ),
      ],
      LABELS,
    ),
  )
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(0)
  console.log(`\n${seconds} s in all; job ${job.id} is kept, and the task answers from now on`)
}

/** Uploads the training lines, starts a job on them and waits for its end. */
async function learn(
  client: Client,
  model: string,
  training: readonly NewsLine[],
): Promise<FineTuningJob> {
  const file = await client.uploadFile('news-20.jsonl', toJsonLines(training))
  console.log(`uploaded ${file.id} (${file.bytes} bytes)`)
  const startedAtMs = performance.now()
  let job = await client.createJob({
    model,
    training_file: file.id,
    suffix: TASK,
    seed: SEED,
    method: {
      type: 'rotation',
      rotation: {
        instructions: INSTRUCTIONS,
        labels: LABELS,
        // The demo asks for the task by name, so a promising version must go live too.
        publish: 'promising',
        // One fit takes seconds; the default, `auto`, tries several in 40 s.
        hyperparameters: { optimizer: 'gradient' },
      },
    },
  })
  const bar = new ProgressBar('learning')
  for (;;) {
    const { trials_done, trials_total, best_value, base_value } = job.arcana.progress
    const detail =
      best_value === null || base_value === null
        ? ''
        : `mean log P(right label) ${base_value.toFixed(3)} → ${best_value.toFixed(3)}`
    bar.update(trials_done, trials_total, detail)
    if (job.status === 'succeeded' || job.status === 'failed' || job.status === 'cancelled') break
    await sleep(POLL_INTERVAL_MS)
    job = await client.job(job.id)
  }
  bar.finish()
  if (job.status !== 'succeeded') {
    throw new DemoError(`the job ${job.status}: ${job.error?.message ?? 'no reason given'}`)
  }
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(0)
  const name = `${model}:${TASK}@${job.arcana.version ?? '?'}`
  console.log(`learnt ${name} in ${seconds} s`)
  const guard = job.arcana.report?.guard
  console.log(`${guard?.outcome ?? 'not judged'}: ${guard?.summary ?? 'there is no report yet'}\n`)
  return job
}

/** Asks about one line of each class as any client would, with and without `x-task`. */
async function askOneOfEach(
  client: Client,
  model: string,
  test: readonly NewsLine[],
): Promise<void> {
  const settings = { model, max_tokens: 16, temperature: 0 }
  let proof = ''
  for (const wanted of LABELS) {
    const { input } = test.find(({ label }) => label === wanted)!
    const question = [{ role: 'user', content: input }]
    const system = [{ role: 'system', content: INSTRUCTIONS }]
    const base = await client.chat({ ...settings, messages: [...system, ...question] }, null)
    const { choices, arcana } = await client.chat({ ...settings, messages: question }, TASK)
    const likely = [...(arcana.labels ?? [])].sort((a, b) => b.probability - a.probability)
    const shares = likely.map(({ label, probability }) => `${label} ${probability.toFixed(2)}`)
    console.log(`“${input}”`)
    console.log(`  base model          ${JSON.stringify(base.choices[0].message.content)}`)
    console.log(
      `  x-task: ${TASK}   ${JSON.stringify(choices[0].message.content)}   (${shares.join(', ')})`,
    )
    proof = formatProof(arcana)
  }
  console.log(`proof of the last answer: ${proof}\n`)
}

function formatProof(arcana: ArcanaProof): string {
  const adapters = arcana.adapters.map(({ digest, weight, task, version }) => {
    return `${task}@${version} = adapter ${digest.slice(0, 12)}… × ${weight}`
  })
  if (adapters.length === 0) {
    return `${arcana.task ?? TASK}@${arcana.version ?? '?'} = a label bias, no adapter, runner ${arcana.runner}`
  }
  return (
    `${adapters.join(' + ')} on layers ${arcana.layers.join(' ')}, scope ${arcana.scope}, ` +
    `model ${arcana.model_digest.slice(0, 12)}…, build ${arcana.build_digest.slice(0, 12)}…, ` +
    `runner ${arcana.runner}`
  )
}

/** The arm's log probabilities, in the order of LABELS. */
function logProbsOf(arm: ComparedArm): number[] {
  return LABELS.map((wanted) => {
    const found = arm.labels?.find(({ label }) => label === wanted)
    if (!found) throw new DemoError(`the arm ${arm.arm} gave no probability of ${wanted}`)
    return found.log_probability
  })
}

function answerOf(arm: ComparedArm): number {
  const index = (LABELS as readonly string[]).indexOf(arm.message.content)
  if (index < 0)
    throw new DemoError(`the arm ${arm.arm} answered ${JSON.stringify(arm.message.content)}`)
  return index
}

/** Runs a function on items, a limited number at a time. @returns the results in the items' order */
async function mapConcurrently<T, R>(
  items: readonly T[],
  limit: number,
  run: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++
      results[index] = await run(items[index]!)
    }
  }
  await Promise.all(Array.from({ length: limit }, worker))
  return results
}

main().catch((error: unknown) => {
  console.error(error instanceof DemoError ? `demo: ${error.message}` : error)
  process.exit(1)
})
