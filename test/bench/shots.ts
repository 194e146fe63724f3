/**
 * Measures adapters on prompts with four shots, the paper's second setting: with and without an
 * adapter that was fitted on the same prompts, beside the same without shots. No row is both a shot
 * and a training example.
 *
 * `--sets NAME,…` (ag_news,sst2,sms_spam), `--seeds 0,1,…` (0,1,2), `--optimizer NAME` (gradient),
 * `--trials N` (150) where it searches, `--split NAME` (validation), `--rows N` (300), `--kept FOLDER`
 * (.arcana/bench/shots-NAME), `--out FOLDER` for `shots.json` and `shots.md`.
 */
import path from 'node:path'
import { parseArgs } from 'node:util'
import type OpenAI from 'openai'
import { writeResults } from './results/write.ts'
import { drawBalanced, goldOf } from './tasks/draw.ts'
import { shotMessages } from './tasks/measure.ts'
import { pairedDifference } from './tasks/resample.ts'
import {
  compareRows,
  createLabelTask,
  deleteTasks,
  learnTask,
  openService,
  uploadRows,
  type Message,
} from './tasks/service.ts'
import { readRows, TASK_SETS, type Row } from './tasks/sets.ts'
import { DEFAULT_KEPT, Store, type JobFigures, type Measured, type Setting } from './tasks/store.ts'
import { mean, summarise, type Scores } from './tasks/summary.ts'
import { head, row, short } from './tasks/table.ts'

const NUM_TRAIN_ROWS = 20
/** Shots have a seed of their own. */
const SHOT_POOL_SEED_OFFSET = 1000

/** Columns and their descriptions. */
const COLUMNS = {
  zero_base: 'the base model, no shots',
  zero_adapter: 'an adapter fitted without shots, no shots',
  four_base: 'the base model, four shots',
  four_adapter: 'an adapter fitted on the four-shot frame, four shots',
  four_moved: 'the adapter that was fitted without shots, four shots',
} as const
/** Differences between two columns. */
const COMPARED = [
  ['zero_adapter', 'zero_base'],
  ['four_base', 'zero_base'],
  ['four_adapter', 'four_base'],
  ['four_adapter', 'zero_adapter'],
  ['four_adapter', 'four_moved'],
] as const

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: 'ag_news,sst2,sms_spam' },
      seeds: { type: 'string', default: '0,1,2' },
      optimizer: { type: 'string', default: 'gradient' },
      trials: { type: 'string', default: '150' },
      split: { type: 'string', default: 'validation' },
      rows: { type: 'string', default: '300' },
      kept: { type: 'string' },
      out: { type: 'string' },
    },
  })
  const { optimizer, split } = values
  const kept = values.kept ?? path.join(path.dirname(DEFAULT_KEPT), `shots-${optimizer}`)
  const store = new Store(kept)
  const settings = values.sets.split(',').flatMap((set) =>
    values.seeds.split(',').map((seed): Setting => ({
      set,
      seed: Number(seed),
      split,
      num_rows: Number(values.rows),
      num_train: NUM_TRAIN_ROWS,
    })),
  )
  const missing = settings.filter((setting) => store.get(setting) === undefined)
  if (missing.length > 0) {
    const service = await openService()
    try {
      for (const setting of missing) {
        const pool = readRows(setting.set, 'train')
        const test = readRows(setting.set, split, setting.num_rows)
        if (pool === null || test === null) {
          console.log(`skipped: ../shared/data/${setting.set} is not beside this checkout`)
          continue
        }
        const plan = { ...setting, pool, test, optimizer, numTrials: Number(values.trials) }
        try {
          const part = await measureShots(service.openai, plan)
          store.add(part)
          console.log(JSON.stringify(summarise(part)))
        } catch (error) {
          // The others are measured anyway; a second run measures this one.
          console.error(JSON.stringify({ ...setting, failed: String(error) }))
          process.exitCode = 1
        }
      }
    } finally {
      await service.stop()
    }
  }
  const measured = settings.flatMap((setting) => store.get(setting) ?? [])
  if (measured.length > 0) await report(measured, optimizer, values.out)
}

type Plan = Setting & {
  readonly pool: readonly Row[]
  readonly test: readonly Row[]
  readonly optimizer: string
  readonly numTrials: number
}

async function measureShots(openai: OpenAI, plan: Plan): Promise<Measured> {
  const { set, seed, split, num_rows, num_train, pool, test, optimizer, numTrials } = plan
  const { instructions, words: wordOf } = TASK_SETS[set]!
  const words = Object.values(wordOf)
  const train = drawBalanced(pool, words, seed, num_train)
  const rest = pool.filter((candidate) => !train.includes(candidate))
  const shotRows = drawBalanced(rest, words, seed + SHOT_POOL_SEED_OFFSET, num_train)
  const shots = shotMessages(instructions, shotRows, words)
  const files: string[] = []
  const tasks: string[] = []
  const learn = async (
    kind: string,
    before: readonly Message[],
  ): Promise<{ readonly task: string | null; readonly figures: JobFigures }> => {
    const file = await uploadRows(openai, train, before)
    files.push(file)
    const learnt = await learnTask(openai, {
      name: `${set}-${seed}-${kind}`,
      file,
      seed,
      optimizer,
      numTrials,
      // The lines of the four-shot file have their own system message.
      instructions: before.length === 0 ? instructions : null,
      words,
    })
    if (learnt.task !== null) tasks.push(learnt.task)
    return learnt
  }
  try {
    // Gives the base model its frame and labels.
    const frame = await createLabelTask(openai, `${set}-${seed}`, instructions, words)
    tasks.push(frame)
    const zero = await learn('zero', [])
    const four = await learn('four', shots)
    // If nothing was published, a request gets the base model.
    const armOf = ({ task }: typeof zero): string => task ?? frame
    const plain = await compareRows(openai, [armOf(zero)], test, words)
    const shown = await compareRows(openai, [armOf(four), armOf(zero)], test, words, shots)
    const jobs = { zero_adapter: zero.figures, four_adapter: four.figures }
    const columns = {
      zero_base: plain[0]!,
      zero_adapter: plain[1]!,
      four_base: shown[0]!,
      four_adapter: shown[1]!,
      four_moved: shown[2]!,
    } satisfies Record<keyof typeof COLUMNS, unknown>
    return { set, seed, split, num_rows, num_train, gold: goldOf(test, words), columns, jobs }
  } finally {
    for (const file of files) await openai.files.delete(file).catch(() => undefined)
    await deleteTasks(openai, tasks)
  }
}

async function report(
  measured: readonly Measured[],
  optimizer: string,
  out: string | undefined,
): Promise<void> {
  const entries = measured.map(summarise)
  const names = Object.keys(COLUMNS)
  const sets = [...Map.groupBy(entries, ({ set }) => set)]
  const differences = COMPARED.map(([column, against]) =>
    pairedDifference(measured, column, against),
  )
  const table = (metric: keyof Scores): string[] => {
    const cells = sets.map(([set, own]) => ({
      set,
      values: names.map((name) => mean(own.map(({ scores }) => scores[name]![metric]))),
    }))
    return [
      ...head(['set', ...names]),
      ...cells.map(({ set, values }) => row([set, ...values.map(short)])),
      row(['**mean**', ...names.map((_, k) => short(mean(cells.map(({ values }) => values[k]!))))]),
      '',
    ]
  }
  const [first] = measured as [Measured]
  const seeds = new Set(measured.map(({ seed }) => seed)).size
  const markdown = [
    '# Frames with four shots',
    '',
    `Adapters by \`${optimizer}\` from ${NUM_TRAIN_ROWS} examples; the four shots are other rows. The first ${first.num_rows} ${first.split} rows of each set, mean of ${seeds} seeds.`,
    '',
    ...Object.entries(COLUMNS).map(([name, meaning]) => `- \`${name}\`: ${meaning}`),
    '',
    '## Balanced accuracy',
    '',
    ...table('balanced_accuracy'),
    '## Log loss, nats',
    '',
    ...table('log_loss'),
    '## Differences of mean balanced accuracy',
    '',
    'Paired over test rows, 95% interval (bootstrap within labels; sets count alike).',
    '',
    ...head(['column', 'against', 'difference', 'interval']),
    ...differences.map(({ column, against, difference, interval }) =>
      row([column, against, short(difference), interval.map(short).join(' to ')]),
    ),
    '',
  ].join('\n')
  console.log(markdown)
  if (out === undefined) return
  await writeResults(out, {
    'shots.md': markdown,
    'shots.json': { optimizer, entries, differences },
  })
}
