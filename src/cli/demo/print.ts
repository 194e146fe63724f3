import { accuracyOf, type Confusion } from './score.ts'

const BAR_LEN = 30

/**
 * A progress bar. On a terminal it redraws one line; elsewhere it prints a line for each quarter.
 */
export class ProgressBar {
  readonly #label: string
  readonly #isTty = process.stdout.isTTY
  #nextQuarter = 1

  constructor(label: string) {
    this.#label = label
  }

  update(done: number, total: number, detail = ''): void {
    const share = total > 0 ? done / total : 0
    const filled = Math.round(share * BAR_LEN)
    const bar = '█'.repeat(filled) + '░'.repeat(BAR_LEN - filled)
    const line = `${this.#label} ${bar} ${done}/${total}${detail === '' ? '' : `  ${detail}`}`
    if (this.#isTty) {
      process.stdout.write(`\r${line}\u001B[K`)
    } else if (share * 4 >= this.#nextQuarter) {
      this.#nextQuarter = Math.floor(share * 4) + 1
      console.log(line)
    }
  }

  finish(): void {
    if (this.#isTty) console.log()
  }
}

export interface Outcome {
  readonly name: string
  readonly confusion: Confusion
}

/** Writes the accuracies below each other, then the confusion matrices side by side. */
export function formatOutcomes(outcomes: readonly Outcome[], labels: readonly string[]): string {
  const nameLen = Math.max(...outcomes.map(({ name }) => name.length))
  const accuracies = outcomes.map(({ name, confusion }) => {
    const accuracy = accuracyOf(confusion)
    return `  ${name.padEnd(nameLen)}  ${accuracy.toFixed(3)}  ${'▇'.repeat(Math.round(accuracy * 40))}`
  })
  const tables = outcomes.map(({ name, confusion }) => formatConfusion(name, confusion, labels))
  const width = Math.max(...tables.flat().map((line) => line.length))
  const rows = tables[0]!.map((_, row) =>
    `  ${tables.map((table) => table[row]!.padEnd(width)).join('   ')}`.trimEnd(),
  )
  return [...accuracies, '', '  rows: right label, columns: answer', ...rows].join('\n')
}

function formatConfusion(name: string, confusion: Confusion, labels: readonly string[]): string[] {
  const short = labels.map((label) => label.slice(0, 3))
  const cell = (text: string): string => text.padStart(5)
  return [
    name,
    `${' '.repeat(3)}${short.map(cell).join('')}`,
    ...confusion.map((row, i) => `${short[i]!}${row.map((count) => cell(String(count))).join('')}`),
  ]
}
