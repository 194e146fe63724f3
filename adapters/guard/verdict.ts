import { LOG_PROB_FLOOR, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { meanInterval, signFlipTest, smallestDetectable } from '../statistics/paired-test.ts'
import type { OutOfFold } from './out-of-fold.ts'

/** Share of the jobs with nothing to learn that may publish, both answers together. */
export const GUARD_LEVEL = 0.05
/** For which a smallest gain is stated. */
export const GUARD_POWER = 0.8

/** Answers that need no learning; `label_frequencies` is the best constant one, in hindsight. */
export type Reference = 'base' | 'calibrated_base' | 'bias_only' | 'label_frequencies'

/** What needs no learning and has to be beaten by the test; the second keeps chance from publishing. */
const TESTED = ['base', 'label_frequencies'] as const satisfies readonly Reference[]

/** An answer held against everything that could do as well with less. */
export type Comparison = {
  /**
   * Mean log loss of each reference less the answer's own, nats; positive is better. An adapter's over
   * a bias alone and over the calibrated base model are not tested: they choose between answers.
   */
  readonly gains: Readonly<Partial<Record<Reference, number>>>
  /** The reference that is hardest to beat: of the largest p-value, then of the smallest gain. */
  readonly against: Reference
  /** Against that one: the answer must beat them all. */
  readonly pValue: number
  readonly gain: number
  readonly interval: readonly [number, number] | null
  readonly smallestDetectableGain: number | null
}

export type Verdict = {
  readonly outcome: 'published' | 'no_gain' | 'inconclusive'
  /** What is published, or would be by force; null where nothing did better than nothing. */
  readonly answer: 'adapter' | 'bias_only' | null
  readonly adapter: Comparison
  readonly biasOnly: Comparison
}

/**
 * Decides whether what was learnt is published. Fixed before any data: an adapter, and a bias alone,
 * has to beat the base model and the labels' frequencies, each by a paired one-sided sign-flip test
 * on out-of-fold log loss. An answer's p-value is its largest. The two answers share the level by
 * Holm's rule. So labels that have nothing to do with their inputs are published at most at the
 * level: nothing learnt from them can beat their frequencies but by luck. An adapter must have a lower
 * loss than the calibrated base model too, and of two answers that pass, the one of the lower loss is
 * published: a bias that does as well as the adapter is preferred to it.
 * @param groups equal for examples that count as one, as repeated inputs; [examples]
 * @param hasAdapter whether the search found a rotation at all
 * @throws {RangeError} no examples, or lengths that differ
 */
export function judge(
  predictions: OutOfFold,
  gold: readonly number[],
  { groups, hasAdapter }: { readonly groups: readonly number[]; readonly hasAdapter: boolean },
): Verdict {
  const losses = {
    base: lossesOf(predictions.base, gold),
    calibrated_base: lossesOf(predictions.calibratedBase, gold),
    bias_only: lossesOf(predictions.biasOnly, gold),
    label_frequencies: frequencyLosses(gold),
  }
  const compare = (answer: readonly number[], references: readonly Reference[]): Comparison =>
    compareTo(answer, losses, references, groups)
  const adapterLosses = lossesOf(predictions.adapter, gold)
  const tested = compare(adapterLosses, TESTED)
  const gainOverBias = gainOver(losses.bias_only, adapterLosses, groups)
  const gainOverCalibrated = gainOver(losses.calibrated_base, adapterLosses, groups)
  const untested = { bias_only: gainOverBias, calibrated_base: gainOverCalibrated }
  const adapter = { ...tested, gains: { ...tested.gains, ...untested } }
  const biasOnly = compare(losses.bias_only, TESTED)

  const adapterPValue = hasAdapter && gainOverCalibrated > 0 ? adapter.pValue : 1
  const smaller = Math.min(adapterPValue, biasOnly.pValue)
  const passes = (pValue: number): boolean =>
    smaller <= GUARD_LEVEL / 2 && pValue <= (pValue === smaller ? GUARD_LEVEL / 2 : GUARD_LEVEL)
  const isBiasPassed = passes(biasOnly.pValue)
  if (passes(adapterPValue) && (gainOverBias > 0 || !isBiasPassed)) {
    return { outcome: 'published', answer: 'adapter', adapter, biasOnly }
  }
  if (isBiasPassed) return { outcome: 'published', answer: 'bias_only', adapter, biasOnly }
  if (hasAdapter && adapter.gain > 0 && gainOverBias > 0) {
    return { outcome: 'inconclusive', answer: 'adapter', adapter, biasOnly }
  }
  if (biasOnly.gain > 0) {
    return { outcome: 'inconclusive', answer: 'bias_only', adapter, biasOnly }
  }
  return { outcome: 'no_gain', answer: null, adapter, biasOnly }
}

function compareTo(
  answer: readonly number[],
  losses: Readonly<Record<Reference, readonly number[]>>,
  references: readonly Reference[],
  groups: readonly number[],
): Comparison {
  const compared = references.map((reference) => {
    const differences = differencesFrom(losses[reference], answer, groups)
    return {
      reference,
      differences,
      gain: mean(differences),
      pValue: signFlipTest(differences),
    }
  })
  const hardest = compared.reduce((worst, next) => {
    if (next.pValue !== worst.pValue) return next.pValue > worst.pValue ? next : worst
    return next.gain < worst.gain ? next : worst
  })
  return {
    gains: Object.fromEntries(compared.map(({ reference, gain }) => [reference, gain])),
    against: hardest.reference,
    pValue: hardest.pValue,
    gain: hardest.gain,
    interval: meanInterval(hardest.differences),
    smallestDetectableGain: smallestDetectable(hardest.differences, GUARD_LEVEL / 2, GUARD_POWER),
  }
}

const differencesFrom = (
  reference: readonly number[],
  answer: readonly number[],
  groups: readonly number[],
): number[] =>
  meanByGroup(
    reference.map((loss, i) => loss - answer[i]!),
    groups,
  )

const gainOver = (...losses: Parameters<typeof differencesFrom>): number =>
  mean(differencesFrom(...losses))

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

const lossesOf = (logProbs: LabelLogProbs, gold: readonly number[]): number[] =>
  logProbs.map((row, i) => -Math.max(row[gold[i]!]!, LOG_PROB_FLOOR))

function frequencyLosses(gold: readonly number[]): number[] {
  const counts = new Map<number, number>()
  for (const label of gold) counts.set(label, (counts.get(label) ?? 0) + 1)
  return gold.map((label) => -Math.log(counts.get(label)! / gold.length))
}

/** Examples of one input are no independent witnesses: they count as one. */
export function meanByGroup(values: readonly number[], groups: readonly number[]): number[] {
  if (groups.length !== values.length) {
    throw new RangeError(`${groups.length} groups of ${values.length} examples`)
  }
  const members = new Map<number, number[]>()
  values.forEach((value, i) => {
    const known = members.get(groups[i]!)
    if (known === undefined) members.set(groups[i]!, [value])
    else known.push(value)
  })
  return [...members.values()].map(mean)
}
