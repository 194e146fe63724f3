/**
 * What was measured, one JSON object a line and a file a set, so that a run that is stopped goes on where
 * it was. The lines hold what models say of rows that are named by their place alone and by one digest of
 * them all; the right labels are read from the data sets, whose licences keep their rows out of the
 * repository.
 */
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'
import { goldOf } from './draw.ts'
import { digestRows, readRows, TASK_SETS } from './sets.ts'

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

/** What a file holds of it, and of which rows that was said (`digestRows`). */
type Line = Omit<Measured, 'gold'> & { readonly rows_digest: string }

/** Right label of each test row, and the rows' digest. */
type TestRows = { readonly gold: readonly number[]; readonly digest: string }

/** A setting's test rows; null where its data are not here. */
export type ReadTestRows = (setting: Setting) => TestRows | null

const readTestRowsOfSet: ReadTestRows = ({ set, split, num_rows }) => {
  const rows = readRows(set, split, num_rows)
  if (rows === null) return null
  return { gold: goldOf(rows, Object.values(TASK_SETS[set]!.words)), digest: digestRows(rows) }
}

export class Store {
  readonly #folder: string
  readonly #readTestRows: ReadTestRows
  /** By set, split and number of rows: many lines are of the same. */
  readonly #testRows = new Map<string, TestRows | null>()
  readonly #entries = new Map<string, Measured>()

  /**
   * @param folder every `.jsonl` of it is read, columns measured elsewhere (LoRA's) among them
   * @throws {Error} columns that were measured on other rows
   */
  constructor(folder: string, readTestRows: ReadTestRows = readTestRowsOfSet) {
    this.#folder = folder
    this.#readTestRows = readTestRows
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
    const { set, seed, split, num_rows, num_train, jobs } = part
    const test = this.#testRowsOf(part)
    if (test === null) throw new Error(`there are no test rows of ${set} here`)
    const columns = Object.entries(part.columns).map(([name, rows]) => [
      name,
      rows.map((row) => row.map((value) => Number(value.toFixed(KEPT_DIGITS)))),
    ])
    const line: Line = {
      ...{ set, seed, split, num_rows, num_train },
      rows_digest: test.digest,
      columns: Object.fromEntries(columns) as Line['columns'],
      jobs,
    }
    this.#merge({ ...line, columns: part.columns })
    appendFileSync(path.join(this.#folder, `${set}.jsonl`), `${JSON.stringify(line)}\n`)
  }

  #testRowsOf(setting: Setting): TestRows | null {
    const key = JSON.stringify([setting.set, setting.split, setting.num_rows])
    let rows = this.#testRows.get(key)
    if (rows === undefined) this.#testRows.set(key, (rows = this.#readTestRows(setting)))
    return rows
  }

  #merge({ rows_digest, ...part }: Line): void {
    const test = this.#testRowsOf(part)
    if (test === null) return
    const key = keyOf(part)
    const isWhole = Object.values(part.columns).every((said) => said.length === test.gold.length)
    if (rows_digest !== test.digest || !isWhole) {
      throw new Error(`there are columns of other test rows for ${key}`)
    }
    const known = this.#entries.get(key)
    this.#entries.set(key, {
      ...part,
      gold: test.gold,
      columns: { ...known?.columns, ...part.columns },
      jobs: { ...known?.jobs, ...part.jobs },
    })
  }
}
