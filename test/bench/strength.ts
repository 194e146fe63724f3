/**
 * Measures an adapter at strengths from 0 to 1.5 through `POST /v1/compare`. It checks that
 * strength 0 is the base model to the bit, and that −1 undoes +1, both as the weights of one
 * adapter and as a second adapter with the opposite angles.
 *
 * `--sets NAME,…` (ag_news,sst2,sms_spam), `--seed N` (0), `--optimizer NAME` (gradient), `--trials N`
 * (150) where it searches, `--split NAME` (validation), `--rows N` (300), `--out FOLDER` for
 * `strength.json`, `strength.md` and `strength.svg`.
 */
import { parseArgs } from 'node:util'
import type OpenAI from 'openai'
import type { TopLevelSpec } from 'vega-lite'
import { decodeAdapter, encodeAdapter } from '../../adapters/format/adapter-file.ts'
import { applyTemperature } from '../../adapters/objective/temperature.ts'
import { inverseRotation } from '../../adapters/rotation/rotation.ts'
import type { TaskWithVersions } from '../../src/protocol/arcana/tasks.ts'
import { CHART_CONFIG, renderSvg } from './results/chart.ts'
import { writeResults } from './results/write.ts'
import { drawBalanced, goldOf } from './tasks/draw.ts'
import {
  compareArms,
  deleteTasks,
  learnPublished,
  openService,
  taskName,
  uploadRows,
  uploadTask,
} from './tasks/service.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'
import { summarise, type Scores } from './tasks/summary.ts'
import { head, row, short } from './tasks/table.ts'

const NUM_TRAIN_ROWS = 20
const STRENGTHS = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, 1.125, 1.25, 1.375, 1.5]
const PANEL = { width: 320, height: 240 }

type Swept = {
  readonly set: string
  readonly num_rows: number
  readonly points: readonly ({ readonly strength: number } & Scores)[]
  /**
   * Largest difference from the base model of any label's log probability in any row, the model's own
   * before bias: at strength 0, under one adapter's weights 1 and -1, and under the adapter with one of
   * opposite angles.
   */
  readonly differences: {
    readonly strength_0: number
    readonly same_adapter: number
    readonly opposite_adapter: number
  }
}

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: 'ag_news,sst2,sms_spam' },
      seed: { type: 'string', default: '0' },
      optimizer: { type: 'string', default: 'gradient' },
      trials: { type: 'string', default: '150' },
      split: { type: 'string', default: 'validation' },
      rows: { type: 'string', default: '300' },
      out: { type: 'string' },
    },
  })
  const { split, optimizer } = values
  const service = await openService()
  const swept: Swept[] = []
  try {
    for (const set of values.sets.split(',')) {
      const one = await sweep(service.openai, {
        set,
        seed: Number(values.seed),
        optimizer,
        numTrials: Number(values.trials),
        split,
        numRows: Number(values.rows),
      })
      if (one === null) continue
      console.log(JSON.stringify(one))
      swept.push(one)
    }
  } finally {
    await service.stop()
  }
  if (swept.length === 0) return
  const setting = { split, optimizer, seed: Number(values.seed), num_train: NUM_TRAIN_ROWS }
  const markdown = toMarkdown(swept, setting)
  console.log(markdown)
  if (values.out === undefined) return
  await writeResults(values.out, {
    'strength.md': markdown,
    'strength.json': { ...setting, sets: swept },
    'strength.svg': await renderSvg(chartOf(swept)),
  })
}

type Plan = {
  readonly set: string
  readonly seed: number
  readonly optimizer: string
  readonly numTrials: number
  readonly split: string
  readonly numRows: number
}

/** @returns null if the set is not beside this checkout */
async function sweep(openai: OpenAI, plan: Plan): Promise<Swept | null> {
  const { set, seed, optimizer, numTrials, split, numRows } = plan
  const train = readRows(set, 'train')
  const test = readRows(set, split, numRows)
  if (train === null || test === null) {
    console.log(`skipped: ../shared/data/${set} is not beside this checkout`)
    return null
  }
  const { instructions, words: wordOf } = TASK_SETS[set]!
  const words = Object.values(wordOf)
  const drawn = drawBalanced(train, words, seed, NUM_TRAIN_ROWS)
  const file = await uploadRows(openai, drawn)
  const tasks: string[] = []
  try {
    const lesson = {
      name: `${set}-strength`,
      file,
      seed,
      optimizer,
      numTrials,
      instructions,
      words,
    }
    const task = await learnPublished(openai, lesson)
    tasks.push(task)
    const opposite = await uploadOpposite(openai, task)
    tasks.push(opposite.task)
    const weights = STRENGTHS.map((strength) => (strength === 1 ? task : `${task}*${strength}`))
    const arms = [...weights, `${task}+${task}*-1`, `${task}+${opposite.task}`]
    const [base, ...answers] = await compareArms(openai, arms, test, words)
    const gold = goldOf(test, words)
    const largest = (arm: (typeof answers)[number]): number =>
      Math.max(
        ...arm.flatMap(({ model }, i) =>
          model.map((value, k) => Math.abs(value - base![i]!.model[k]!)),
        ),
      )
    return {
      set,
      num_rows: test.length,
      points: STRENGTHS.map((strength, i) => {
        const served = answers[i]!.map((answer) => answer.served)
        // A temperature applies only at full strength, so the curve omits it.
        const logProbs =
          strength === 1 ? applyTemperature(served, 1 / opposite.temperature) : served
        const column = { gold, columns: { adapter: logProbs }, jobs: {} }
        const setting = { set, seed, split, num_rows: numRows, num_train: NUM_TRAIN_ROWS }
        return { strength, ...summarise({ ...setting, ...column }).scores['adapter']! }
      }),
      differences: {
        strength_0: largest(answers[0]!),
        same_adapter: largest(answers[STRENGTHS.length]!),
        opposite_adapter: largest(answers[STRENGTHS.length + 1]!),
      },
    }
  } finally {
    await openai.files.delete(file).catch(() => undefined)
    await deleteTasks(openai, tasks)
  }
}

/** A task whose adapter has the opposite angles and log scales, and the opposite bias. */
async function uploadOpposite(
  openai: OpenAI,
  task: string,
): Promise<{ readonly task: string; readonly temperature: number }> {
  const { versions } = await openai.get<TaskWithVersions>(`/tasks/${task}`)
  // Newest first, and the newest is live: before it there may be a checkpoint.
  const { version, instructions, labels, bias, temperature } = versions[0]!
  const response = await openai.get(`/tasks/${task}/versions/${version}/adapter`).asResponse()
  const decoded = decodeAdapter(new Uint8Array(await response.arrayBuffer()))
  if (!decoded.ok) throw new Error(decoded.error.message)
  const { value } = decoded
  const name = taskName('opposite')
  await uploadTask(
    openai,
    name,
    encodeAdapter({ ...value, rotation: inverseRotation(value.rotation) }),
    { instructions, labels, bias: bias?.map((own) => -own) ?? null },
  )
  return { task: name, temperature: temperature ?? 1 }
}

function toMarkdown(
  swept: readonly Swept[],
  setting: { readonly split: string; readonly optimizer: string; readonly num_train: number },
): string {
  const exact = (value: number): string => (value === 0 ? '0' : value.toExponential(1))
  return [
    '# Strength',
    '',
    `Adapters by \`${setting.optimizer}\` from ${setting.num_train} examples, applied at strengths 0 to 1.5 to the first ${swept[0]!.num_rows} ${setting.split} rows of each set. Angles, log scales and bias go with the strength; log loss is without a temperature.`,
    '',
    '![Strength](strength.svg)',
    '',
    '## Balanced accuracy',
    '',
    ...head(['set', ...STRENGTHS.map(String)]),
    ...swept.map(({ set, points }) =>
      row([set, ...points.map((point) => short(point.balanced_accuracy))]),
    ),
    '',
    '## Log loss, nats',
    '',
    ...head(['set', ...STRENGTHS.map(String)]),
    ...swept.map(({ set, points }) => row([set, ...points.map((point) => short(point.log_loss))])),
    '',
    '## Nothing and there and back',
    '',
    'Largest difference from the base model of any label’s log probability in any row: 0 is the same bits.',
    '',
    ...head(['set', 'rows', 'strength 0', 'adapter − itself', 'adapter + its opposite']),
    ...swept.map(({ set, num_rows, differences: d }) =>
      row([set, num_rows, exact(d.strength_0), exact(d.same_adapter), exact(d.opposite_adapter)]),
    ),
    '',
  ].join('\n')
}

function chartOf(swept: readonly Swept[]): TopLevelSpec {
  const values = swept.flatMap(({ set, points }) => points.map((point) => ({ set, ...point })))
  const ticks = STRENGTHS.filter((strength) => strength % 0.25 === 0)
  const panel = (field: string, title: string) => ({
    ...PANEL,
    mark: { type: 'line', point: { size: 24 }, strokeWidth: 2 } as const,
    encoding: {
      x: {
        field: 'strength',
        type: 'quantitative',
        title: 'strength',
        scale: { nice: false },
        axis: { values: ticks, format: '.2~f', grid: false, labelFlush: false },
      },
      y: { field, type: 'quantitative', title, scale: { zero: false } },
      color: { field: 'set', type: 'nominal', title: null },
    } as const,
  })
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    config: CHART_CONFIG,
    data: { values },
    hconcat: [panel('balanced_accuracy', 'balanced accuracy'), panel('log_loss', 'log loss, nats')],
  }
}
