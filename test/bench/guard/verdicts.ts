/** What the guard says of jobs that were kept, and what they were truly worth. */
import { predictOutOfFold } from '../../../adapters/guard/out-of-fold.ts'
import { judge, type Verdict } from '../../../adapters/guard/verdict.ts'
import { biasedMeanLogProb, fitLabelBias } from '../../../adapters/objective/label-bias.ts'
import { applyBias } from '../../../adapters/objective/label-log-probs.ts'
import { applyTemperature } from '../../../adapters/objective/temperature.ts'
import { logLoss } from '../../../adapters/statistics/classification.ts'
import type { JobRecord } from './jobs.ts'

export type Judged = Verdict & {
  /** What is served less log loss than the base model on rows that nothing was learnt from, nats. */
  readonly trueGain: number
}

export function judgeRecord(record: JobRecord): Judged {
  const { gold, folds, base, own, candidates, unseen } = record
  const predictions = predictOutOfFold({ gold, folds, base, candidates })
  const hasAdapter = biasedMeanLogProb(own, gold) > biasedMeanLogProb(base, gold)
  const groups = gold.map((_, example) => example)
  const verdict = judge(predictions, gold, { groups, hasAdapter })
  const isBias = verdict.answer === 'bias_only'
  const served = applyTemperature(
    applyBias(isBias ? unseen.base : unseen.own, fitLabelBias(isBias ? base : own, gold)),
    predictions.temperatures[isBias ? 'biasOnly' : 'adapter'],
  )
  return { ...verdict, trueGain: logLoss(unseen.base, unseen.gold) - logLoss(served, unseen.gold) }
}

/** One row a set, number of examples and kind of labels. */
export function summarise(records: readonly JobRecord[]): Record<string, string | number>[] {
  const groups = new Map<string, JobRecord[]>()
  for (const record of records) {
    const key = [
      record.set,
      record.rows,
      record.isShuffled ? 'shuffled' : 'true',
      record.optimizer,
    ].join(' ')
    groups.set(key, [...(groups.get(key) ?? []), record])
  }
  return [...groups].map(([jobs, own]) => {
    const judged = own.map(judgeRecord)
    const published = judged.filter(({ outcome }) => outcome === 'published')
    const isOf = (answer: Verdict['answer']) => published.filter((job) => job.answer === answer)
    const mean = (of: readonly Judged[]): number =>
      of.reduce((sum, { trueGain }) => sum + trueGain, 0) / of.length
    return {
      jobs,
      count: own.length,
      adapter: isOf('adapter').length,
      bias_only: isOf('bias_only').length,
      inconclusive: judged.filter(({ outcome }) => outcome === 'inconclusive').length,
      no_gain: judged.filter(({ outcome }) => outcome === 'no_gain').length,
      true_gain: Number(mean(judged).toFixed(3)),
      published_and_worse: published.filter(({ trueGain }) => trueGain < 0).length,
    }
  })
}
