/** The guard's verdicts on kept jobs, and the jobs' true gains. */
import { predictOutOfFold } from '../../../adapters/guard/out-of-fold.ts'
import { judge, type Verdict } from '../../../adapters/guard/verdict.ts'
import { biasedMeanLogProb, fitLabelBias } from '../../../adapters/objective/label-bias.ts'
import { applyBias, type LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'
import { applyTemperature } from '../../../adapters/objective/temperature.ts'
import {
  balancedAccuracy,
  calibrationError,
  confusionMatrix,
  logLoss,
  predictLabels,
} from '../../../adapters/statistics/classification.ts'
import type { JobRecord, UnseenScores } from './jobs.ts'
import type { KeptPartitions } from './repeats.ts'

/** Figures on rows that no job learnt from. */
export type Worth = {
  /** Balanced accuracy of the base model. */
  readonly base: number
  /** Balanced accuracy of the adapter, whatever the guard found, less the base model's. */
  readonly forcedGain: number
  /** The same of what the verdict publishes: the adapter, or the bias alone. */
  readonly gain: number
  readonly logLoss: number
  readonly calibrationError: number
}

export type Judged = Verdict & { readonly worth: Worth }

export type Rows = 'unseen' | 'test'

/**
 * @param kept the jobs' further partitions; where they are missing, the first one decides alone
 * @throws {Error} the job was not scored on the requested test rows
 */
export function judgeRecord(
  record: JobRecord,
  rows: Rows = 'unseen',
  kept?: KeptPartitions,
): Judged {
  const { gold, folds, base, own, candidates } = record
  const scores: UnseenScores | undefined = record[rows]
  if (scores === undefined) throw new Error(`${record.set} ${record.seed} has no test rows`)
  const predictions = predictOutOfFold({ gold, folds, base, candidates })
  const hasAdapter = biasedMeanLogProb(own, gold) > biasedMeanLogProb(base, gold)
  const groups = gold.map((_, example) => example)
  const options = { folds, groups, hasAdapter }
  const first = judge(predictions, gold, options)
  const repeats = kept?.of(record, first) ?? []
  const verdict = repeats.length === 0 ? first : judge(predictions, gold, { ...options, repeats })
  const serve = (answer: 'adapter' | 'biasOnly'): LabelLogProbs =>
    applyTemperature(
      answer === 'adapter'
        ? applyBias(scores.own, fitLabelBias(own, gold))
        : applyBias(scores.base, fitLabelBias(base, gold)),
      predictions.temperatures[answer],
    )
  const accuracyOf = (logProbs: LabelLogProbs) =>
    balancedAccuracy(confusionMatrix(scores.gold, predictLabels(logProbs), logProbs[0]!.length))
  const served = serve(verdict.answer === 'bias_only' ? 'biasOnly' : 'adapter')
  const ofBase = accuracyOf(scores.base)
  return {
    ...verdict,
    worth: {
      base: ofBase,
      forcedGain: accuracyOf(serve('adapter')) - ofBase,
      gain: accuracyOf(served) - ofBase,
      logLoss: logLoss(served, scores.gold),
      calibrationError: calibrationError(served, scores.gold),
    },
  }
}

const isLive = ({ outcome }: Verdict): boolean => outcome === 'proven' || outcome === 'bias_only'

type Line = Record<string, string | number>

/** One row per set, number of examples and kind of labels. */
export function summarise(records: readonly JobRecord[], rows: Rows, kept: KeptPartitions): Line[] {
  const groups = Map.groupBy(records, ({ set, rows: count, isShuffled, optimizer }) =>
    [set, count, isShuffled ? 'shuffled' : 'true', optimizer].join(' '),
  )
  return [...groups].map(([jobs, own]) => {
    const judged = own.map((record) => judgeRecord(record, rows, kept))
    const live = judged.filter(isLive)
    return {
      jobs,
      count: own.length,
      ...countOutcomes(judged),
      base: round(mean(judged.map(({ worth }) => worth.base))),
      gain: round(mean(judged.map(({ worth }) => worth.forcedGain))),
      live_and_worse: live.filter(isWorse).length,
    }
  })
}

const countOutcomes = (judged: readonly Judged[]): Record<Verdict['outcome'], number> => {
  const count = (wanted: Verdict['outcome']) =>
    judged.filter(({ outcome }) => outcome === wanted).length
  return {
    proven: count('proven'),
    promising: count('promising'),
    bias_only: count('bias_only'),
    no_gain: count('no_gain'),
  }
}

/** A live version may lose this much balanced accuracy by the luck of the rows. */
const MAX_LOSS = 0.01
const isWorse = ({ worth }: Judged): boolean => worth.gain < -MAX_LOSS

/** The guard's goals, over all jobs with one number of examples. */
export function summarisePromises(
  records: readonly JobRecord[],
  rows: Rows,
  kept: KeptPartitions,
): Line[] {
  const groups = Map.groupBy(records, ({ rows: count, isShuffled, optimizer }) =>
    [count, isShuffled ? 'shuffled' : 'true', optimizer].join(' '),
  )
  return [...groups].map(([jobs, own]) => {
    const judged = own.map((record) => judgeRecord(record, rows, kept))
    const gaining = (least: number) => judged.filter(({ worth }) => worth.forcedGain >= least)
    const share = (of: readonly Judged[], is: (job: Judged) => boolean) =>
      of.length === 0 ? '—' : `${of.filter(is).length} of ${of.length}`
    const live = judged.filter(isLive)
    const isDivided = ({ numPartitions }: Judged) => numPartitions > 1
    const numLacking = own.filter((record) => kept.lacks(record, judgeRecord(record, rows))).length
    return {
      jobs,
      'divided again': `${judged.filter(isDivided).length}${numLacking === 0 ? '' : ` (${numLacking} not yet)`}`,
      'gain ≥ .25: proven': share(gaining(0.25), ({ outcome }) => outcome === 'proven'),
      'gain ≥ .10: proven': share(gaining(0.1), ({ outcome }) => outcome === 'proven'),
      'gain ≥ .10: proven or promising': share(
        gaining(0.1),
        ({ outcome }) => outcome === 'proven' || outcome === 'promising',
      ),
      'live: worse by > .01': share(live, isWorse),
      ...(own[0]!.isShuffled
        ? {
            proven: share(judged, ({ outcome }) => outcome === 'proven'),
            promising: share(judged, ({ outcome }) => outcome === 'promising'),
          }
        : {}),
      'live: log loss':
        live.length === 0 ? '—' : round(mean(live.map(({ worth }) => worth.logLoss))),
      'live: ECE':
        live.length === 0 ? '—' : round(mean(live.map(({ worth }) => worth.calibrationError))),
    }
  })
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
const round = (value: number): number => Number(value.toFixed(3))
