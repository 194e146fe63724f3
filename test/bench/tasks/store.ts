/**
 * What was measured, one JSON object a line, so that a run that is stopped goes on where it was. The
 * lines hold predictions for third-party rows, and so belong into no repository.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'

export const DEFAULT_KEPT = fileURLToPath(
  new URL('../../../.arcana/bench/measured.jsonl', import.meta.url),
)

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

export class Store {
  readonly #file: string
  readonly #entries = new Map<string, Measured>()

  /** @param others files of columns measured elsewhere, such as LoRA's; those that are there */
  constructor(file: string, others: readonly string[] = []) {
    this.#file = file
    mkdirSync(path.dirname(file), { recursive: true })
    for (const name of [file, ...others]) {
      if (!existsSync(name)) continue
      for (const line of readFileSync(name, 'utf8').split('\n')) {
        if (line !== '') this.#merge(JSON.parse(line) as Measured)
      }
    }
  }

  get(setting: Setting): Measured | undefined {
    return this.#entries.get(keyOf(setting))
  }

  add(part: Measured): void {
    this.#merge(part)
    appendFileSync(this.#file, `${JSON.stringify(part)}\n`)
  }

  /** @throws {Error} columns of one setting that are of other test rows */
  #merge(part: Measured): void {
    const key = keyOf(part)
    const known = this.#entries.get(key)
    if (known !== undefined && known.gold.join() !== part.gold.join()) {
      throw new Error(`two files have other test rows for ${key}`)
    }
    this.#entries.set(key, {
      ...part,
      columns: { ...known?.columns, ...part.columns },
      jobs: { ...known?.jobs, ...part.jobs },
    })
  }
}
