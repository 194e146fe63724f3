import { describe, it } from 'vitest'
import type { Entry } from './summary.ts'
import { toMarkdown } from './table.ts'

const SCORES = { accuracy: 0.5, balanced_accuracy: 0.25, weighted_f1: 0.5, log_loss: 1 }
const entry = (seed: number, columns: readonly string[]): Entry => ({
  ...{ set: 'ag_news', seed, split: 'test', num_rows: 300, num_train: 20 },
  ...{ num_test_rows: 300, num_labels: 4 },
  scores: Object.fromEntries(columns.map((name) => [name, SCORES])),
  jobs: Object.fromEntries(columns.map((name) => [name, { seconds: 2, trials: 6 }])),
})

describe('toMarkdown', () => {
  it('leaves a cell empty that some seed lacks, and says who is not judged', ({ expect }) => {
    const tables = {
      entries: [entry(0, ['base', 'lora']), entry(1, ['base'])],
      columns: ['base', 'lora'],
      incomplete: ['lora'],
      differences: [],
      aboveChance: new Map([['ag_news', []]]),
    }
    const lines = toMarkdown(tables).split('\n')
    const rows = lines.filter((line) => line.startsWith('| ag_news'))
    expect(rows[0]).toBe('| ag_news ⁰ | 2 | 0.250 |  |')
    expect(rows[1]).toBe('| ag_news ⁰ | 2 | 0.500 |  |')
    expect(lines).toContain('| ag_news | none |')
    expect(lines).toContain('| lora | 1 | 2.0 | 2.0 | 6 | 1 not judged |')
  })
})
