/**
 * Measures what a job learns from twenty examples, through the product's own API: it uploads them,
 * runs jobs, and compares the base model and every task on held-out rows, with baselines that need
 * no job. It asks the server at ARCANA_BASE_URL with ARCANA_API_KEY, or starts one.
 *
 * `--sets NAME,…` (all twelve), `--seeds 0,1,…` (0,1,2), `--optimizers NAME,…` (gradient), names that
 * the service knows or `none`; `--trials N` (150) of those that search; `--split NAME` (validation:
 * `test` is for a final run), `--rows N` (300) of it, `--shots` for four-shot prompting, `--out FOLDER`
 * for `tasks.json`, `tasks.md` and `tasks-by-seed.md`.
 * Sets, seeds and columns that `--kept FOLDER` (.arcana/bench/measured) has are not measured again;
 * lora/fit.py adds its column there. `--export FOLDER` writes what that script reads and measures
 * nothing.
 */
import { parseArgs } from 'node:util'
import { exportForLora } from './lora/export.ts'
import { writeResults } from './results/write.ts'
import { HiddenStates } from './tasks/hidden-states.ts'
import { BASELINES, measure } from './tasks/measure.ts'
import { bySet, columnsAboveChance, pairedDifference } from './tasks/resample.ts'
import { openService } from './tasks/service.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'
import { DEFAULT_KEPT, Store, type Measured, type Setting } from './tasks/store.ts'
import { meanOverSets, round, summarise } from './tasks/summary.ts'
import { bySeedMarkdown, METRICS, toMarkdown, type Tables } from './tasks/table.ts'

const NUM_TRAIN_ROWS = 20
/** The column that the others are compared with if it was measured; else the last one. */
const CHALLENGER = 'auto'

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: Object.keys(TASK_SETS).join(',') },
      seeds: { type: 'string', default: '0,1,2' },
      optimizers: { type: 'string', default: 'gradient' },
      trials: { type: 'string', default: '150' },
      split: { type: 'string', default: 'validation' },
      rows: { type: 'string', default: '300' },
      shots: { type: 'boolean', default: false },
      kept: { type: 'string', default: DEFAULT_KEPT },
      out: { type: 'string' },
      export: { type: 'string' },
    },
  })
  const settings = values.sets.split(',').flatMap((set) =>
    values.seeds.split(',').map((seed): Setting => ({
      set,
      seed: Number(seed),
      split: values.split,
      num_rows: Number(values.rows),
      num_train: NUM_TRAIN_ROWS,
    })),
  )
  if (values.export !== undefined) {
    await exportForLora(settings, values.export)
    return
  }
  const optimisers = values.optimizers === 'none' ? [] : values.optimizers.split(',')
  const columns = [...BASELINES.filter((name) => name !== 'shots' || values.shots), ...optimisers]
  const store = new Store(values.kept)
  const numMissing = await measureMissing(settings, columns, Number(values.trials), store)
  await report(
    settings.flatMap((setting) => store.get(setting) ?? []),
    columns,
    values.out,
  )
  if (numMissing > 0) {
    console.error(`${numMissing} columns could not be measured; run again for them alone`)
    process.exitCode = 1
  }
}

/** @returns the number of missing columns of the available sets */
export async function measureMissing(
  settings: readonly Setting[],
  columns: readonly string[],
  numTrials: number,
  store: Store,
): Promise<number> {
  const lacking = (setting: Setting): string[] => {
    const known = store.get(setting)?.columns ?? {}
    return columns.filter((column) => !(column in known))
  }
  if (settings.every((setting) => lacking(setting).length === 0)) return 0
  const service = await openService()
  let hidden: Promise<HiddenStates> | null = null
  const tools = { openai: service.openai, hidden: () => (hidden ??= HiddenStates.open()) }
  let numMissing = 0
  try {
    for (const setting of settings) {
      const wanted = lacking(setting)
      if (wanted.length === 0) continue
      const train = readRows(setting.set, 'train')
      const test = readRows(setting.set, setting.split, setting.num_rows)
      if (train === null || test === null) {
        console.log(`skipped: ../shared/data/${setting.set} is not beside this checkout`)
        continue
      }
      try {
        const part = await measure(tools, { ...setting, columns: wanted, numTrials, train, test })
        store.add(part)
        console.log(JSON.stringify(summarise(part)))
      } catch (error) {
        // The others are measured anyway; a second run measures this one.
        console.error(JSON.stringify({ ...setting, failed: String(error) }))
      }
      numMissing += lacking(setting).length
    }
  } finally {
    await service.stop()
    const opened = hidden as Promise<HiddenStates> | null
    ;(await opened)?.release()
  }
  return numMissing
}

async function report(
  measured: readonly Measured[],
  asked: readonly string[],
  out: string | undefined,
): Promise<void> {
  if (measured.length === 0) return
  const has = (name: string) => (entry: Measured) => name in entry.columns
  const others = [...new Set(measured.flatMap((entry) => Object.keys(entry.columns)))]
  const columns = [
    ...BASELINES.filter((name) => others.includes(name)),
    ...others.filter(
      (name) => !(BASELINES as readonly string[]).includes(name) && !asked.includes(name),
    ),
    ...asked.filter(
      (name) => !(BASELINES as readonly string[]).includes(name) && others.includes(name),
    ),
  ]
  const complete = columns.filter((name) => measured.every(has(name)))
  const challenger = complete.includes(CHALLENGER) ? CHALLENGER : complete.at(-1)!
  const tables: Tables = {
    entries: measured.map(summarise),
    columns,
    incomplete: columns.filter((name) => !complete.includes(name)),
    differences: complete
      .filter((name) => name !== challenger)
      .map((name) => pairedDifference(measured, challenger, name)),
    aboveChance: new Map(
      bySet(measured).map((entries) => [entries[0]!.set, columnsAboveChance(entries, complete)]),
    ),
  }
  const markdown = toMarkdown(tables)
  console.log(markdown)
  if (out === undefined) return
  const { entries, differences, aboveChance } = tables
  const means = Object.fromEntries(
    complete.map((column) => [
      column,
      Object.fromEntries(
        METRICS.map(([metric]) => [metric, round(meanOverSets(entries, column, metric)!)]),
      ),
    ]),
  )
  await writeResults(out, {
    'tasks.md': markdown,
    'tasks-by-seed.md': bySeedMarkdown(tables),
    'tasks.json': { means, differences, above_chance: Object.fromEntries(aboveChance), entries },
  })
}
