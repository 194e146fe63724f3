/**
 * What was measured, one JSON object a line and a file a set, so that a run that is stopped goes on where
 * it was. The lines hold what models say of rows that are named by their place alone; the right labels
 * are read from the data sets, whose licences keep their rows out of the repository.
 */
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'
import { goldOf } from './draw.ts'
import { readRows, TASK_SETS } from './sets.ts'

/** What is kept of runs whose figures are not published. */
export const DEFAULT_KEPT = fileURLToPath(
  new URL('../../../.arcana/bench/measured', import.meta.url),
)
/** Digits of a kept log probability after the point. */
const KEPT_DIGITS = 4

/** What figures are of: those of one setting are of the same training and test rows. */
export type Setting = {
  readonly set: string
  readonly seed: number
  readonly split: string
  /** The most rows of the split that are asked about. */
  readonly num_rows: number
  /** The most rows that are learnt from; balanced over labels, so there may be fewer. */
  readonly num_train: number
}

export type JobFigures = {
  readonly seconds: number
  readonly trials: number
  /** What the guard says; the bench publishes whatever was learnt. */
  readonly outcome?: string
  /** What was chosen, where more than the product chooses. */
  readonly setting?: string
  /** Of the adapter against the hardest of what it has to beat, out of fold; gains in nats. */
  readonly p_value?: number
  readonly against?: string
  readonly gains?: Readonly<Record<string, number>>
}

/** What some ways of answering say of a setting's test rows. */
export type Measured = Setting & {
  /** Right label of each test row. */
  readonly gold: readonly number[]
  /** By column: log probabilities, [row][label]. */
  readonly columns: Readonly<Record<string, LabelLogProbs>>
  readonly jobs: Readonly<Record<string, JobFigures>>
}

const keyOf = ({ set, seed, split, num_rows, num_train }: Setting): string =>
  JSON.stringify([set, seed, split, num_rows, num_train])

/** What a file holds of it. */
type Line = Omit<Measured, 'gold'>

/** The right labels of a setting's test rows; null where its data are not here. */
export type ReadGold = (setting: Setting) => readonly number[] | null

const readGoldOfSet: ReadGold = ({ set, split, num_rows }) => {
  const rows = readRows(set, split, num_rows)
  return rows === null ? null : goldOf(rows, Object.values(TASK_SETS[set]!.words))
}

export class Store {
  readonly #folder: string
  readonly #readGold: ReadGold
  readonly #entries = new Map<string, Measured>()

  /**
   * @param folder every `.jsonl` of it is read, columns measured elsewhere (LoRA's) among them
   * @throws {Error} columns of one setting that are of other test rows
   */
  constructor(folder: string, readGold: ReadGold = readGoldOfSet) {
    this.#folder = folder
    this.#readGold = readGold
    mkdirSync(folder, { recursive: true })
    const names = readdirSync(folder).filter((name) => name.endsWith('.jsonl'))
    for (const name of names.sort()) {
      for (const line of readFileSync(path.join(folder, name), 'utf8').split('\n')) {
        if (line !== '') this.#merge(JSON.parse(line) as Line)
      }
    }
  }

  get(setting: Setting): Measured | undefined {
    return this.#entries.get(keyOf(setting))
  }

  add(part: Measured): void {
    this.#merge(part)
    const { set, seed, split, num_rows, num_train, jobs } = part
    const columns = Object.entries(part.columns).map(([name, rows]) => [
      name,
      rows.map((row) => row.map((value) => Number(value.toFixed(KEPT_DIGITS)))),
    ])
    const line: Line = {
      ...{ set, seed, split, num_rows, num_train },
      columns: Object.fromEntries(columns) as Line['columns'],
      jobs,
    }
    appendFileSync(path.join(this.#folder, `${set}.jsonl`), `${JSON.stringify(line)}\n`)
  }

  #merge(part: Line): void {
    const key = keyOf(part)
    const known = this.#entries.get(key)
    const gold = known?.gold ?? this.#readGold(part)
    if (gold === null) return
    const isOther = Object.values(part.columns).some((rows) => rows.length !== gold.length)
    if (isOther) throw new Error(`there are columns of other test rows for ${key}`)
    this.#entries.set(key, {
      ...part,
      gold,
      columns: { ...known?.columns, ...part.columns },
      jobs: { ...known?.jobs, ...part.jobs },
    })
  }
}
