import { head, row, short } from '../tasks/table.ts'
import type { Damage } from './measure.ts'

/** Base against adapter by task and set, and whether the base model is unchanged. */
export function toMarkdown(results: readonly Damage[], split: string): string {
  const rows = results.flatMap(({ task, set, numItems, accuracy, perplexity, baseAfterwards }) =>
    [
      { measure: 'accuracy', figures: accuracy, unit: '' },
      { measure: 'perplexity', figures: perplexity, unit: ' nats' },
    ].flatMap(({ measure, figures, unit }) => {
      if (figures === null) return []
      const { base, adapter, difference } = figures
      const { mean, low, high } = difference
      return row([
        task,
        set,
        measure,
        numItems,
        short(base),
        short(adapter),
        `${short(mean)} (${short(low)} to ${short(high)})${unit}`,
        baseAfterwards === 0 ? '0' : baseAfterwards.toExponential(1),
      ])
    }),
  )
  return [
    '# Damage',
    '',
    `What a request would get that is misrouted to a task: other knowledge (${split} rows) under the base model and under the task, paired item by item. The difference is adapter less base, with a 95% interval; of perplexities, it is in nats a token (above 0 is worse).`,
    '',
    'The last column is the largest difference of any token’s log probability when the base model is asked again, with no adapter named, after the task was: 0 is the same bits.',
    '',
    ...head([
      'task',
      'set',
      'measure',
      'items',
      'base',
      'adapter',
      'difference',
      'base asked again',
    ]),
    ...rows,
    '',
  ].join('\n')
}
