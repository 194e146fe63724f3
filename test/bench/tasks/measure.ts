import type OpenAI from 'openai'
import {
  applyBias,
  batchCalibration,
  type LabelLogProbs,
} from '../../../adapters/objective/label-log-probs.ts'
import { drawBalanced, goldOf } from './draw.ts'
import type { HiddenStates } from './hidden-states.ts'
import { logisticRegression } from './logistic-regression.ts'
import {
  compareRows,
  createLabelTask,
  deleteTasks,
  learnTask,
  uploadRows,
  type Message,
} from './service.ts'
import { TASK_SETS, type Row } from './sets.ts'
import type { JobFigures, Measured, Setting } from './store.ts'

const NUM_SHOTS = 4
/** C of the logistic regressions, on label log probabilities and on hidden states; not tuned. */
const LABELS_C = 1
const PROBE_C = 0.1

/** Columns that need no job. */
export const BASELINES = ['base', 'calibrated', 'logistic', 'probe', 'shots'] as const
export type Baseline = (typeof BASELINES)[number]
export const isBaseline = (column: string): column is Baseline =>
  (BASELINES as readonly string[]).includes(column)

export type Tools = {
  readonly openai: OpenAI
  /** Opened by the first probe. */
  readonly hidden: () => Promise<HiddenStates>
}

export type Plan = Setting & {
  /** Baselines, and names of optimisers. */
  readonly columns: readonly string[]
  readonly numTrials: number
  /** The pool of rows to draw training rows from. */
  readonly train: readonly Row[]
  readonly test: readonly Row[]
}

/**
 * Learns by every optimiser from the same rows, and asks the base model and all tasks about the
 * test rows. A failed job is reported and has no column.
 */
export async function measure(tools: Tools, plan: Plan): Promise<Measured> {
  const { openai } = tools
  const { set, seed, split, num_rows, num_train, test } = plan
  const { instructions, words: wordOf } = TASK_SETS[set]!
  const words = Object.values(wordOf)
  const train = drawBalanced(plan.train, words, seed, num_train)
  const wanted = new Set(plan.columns)
  const tasks: string[] = []
  const learnt: { readonly optimizer: string; readonly task: string | null }[] = []
  const jobs: Record<string, JobFigures> = {}
  const file = await uploadRows(openai, train)
  try {
    // Gives the base model its frame and labels where nothing is learnt.
    const frame = await createLabelTask(openai, `${set}-${seed}`, instructions, words)
    tasks.push(frame)
    for (const optimizer of plan.columns.filter((column) => !isBaseline(column))) {
      const job = await learnTask(openai, {
        name: `${set}-${seed}-${optimizer}`,
        file,
        seed,
        optimizer,
        numTrials: plan.numTrials,
        instructions,
        words,
      }).catch((error: unknown) => {
        console.error(JSON.stringify({ set, seed, optimizer, failed: String(error) }))
        return null
      })
      if (job === null) continue
      learnt.push({ optimizer, task: job.task })
      if (job.task !== null) tasks.push(job.task)
      jobs[optimizer] = job.figures
    }
    const columns: Record<string, LabelLogProbs> = {}
    const adapters = tasks.slice(1)
    const needsTraining = wanted.has('calibrated') || wanted.has('logistic')
    if (learnt.length > 0 || wanted.has('base') || needsTraining) {
      const arms = adapters.length > 0 ? adapters : [frame]
      const [base, ...adapted] = await compareRows(openai, arms, test, words)
      // The base model gives the same answers as in an earlier measurement.
      columns['base'] = base!
      // If nothing was published, a request gets the base model.
      for (const { optimizer, task } of learnt) {
        columns[optimizer] = task === null ? base! : adapted[adapters.indexOf(task)]!
      }
      if (needsTraining) {
        const trained = (await compareRows(openai, [frame], train, words))[0]!
        const options = { numLabels: words.length, c: LABELS_C }
        columns['calibrated'] = applyBias(base!, batchCalibration(trained))
        columns['logistic'] = logisticRegression(trained, goldOf(train, words), base!, options)
      }
    }
    if (wanted.has('probe')) {
      columns['probe'] = await probe(await tools.hidden(), instructions, train, test, words)
    }
    if (wanted.has('shots')) {
      const before = shotMessages(instructions, train, words)
      columns['shots'] = (await compareRows(openai, [frame], test, words, before))[0]!
    }
    return { set, seed, split, num_rows, num_train, gold: goldOf(test, words), columns, jobs }
  } finally {
    await openai.files.delete(file).catch(() => undefined)
    await deleteTasks(openai, tasks)
  }
}

/** Logistic regression on the base model's last hidden state at the end of the framed prompt. */
async function probe(
  hidden: HiddenStates,
  instructions: string,
  train: readonly Row[],
  test: readonly Row[],
  words: readonly string[],
): Promise<LabelLogProbs> {
  const read = async (rows: readonly Row[]): Promise<Float32Array[]> => {
    const states: Float32Array[] = []
    for (const { input } of rows) {
      const ids = hidden.encode(instructions, [{ role: 'user', content: input }])
      states.push(await hidden.stateOf(ids))
    }
    return states
  }
  const options = { numLabels: words.length, c: PROBE_C }
  return logisticRegression(await read(train), goldOf(train, words), await read(test), options)
}

/** The frame with four of the rows as turns before the question, of as many labels as there is room for. */
export function shotMessages(
  instructions: string,
  rows: readonly Row[],
  words: readonly string[],
): Message[] {
  const perLabel = Math.max(1, Math.floor(NUM_SHOTS / words.length))
  const shots = words
    .flatMap((word) => rows.filter((row) => row.word === word).slice(0, perLabel))
    .slice(0, NUM_SHOTS)
  return [
    { role: 'system', content: instructions },
    ...shots.flatMap(({ input, word }): Message[] => [
      { role: 'user', content: input },
      { role: 'assistant', content: word },
    ]),
  ]
}
