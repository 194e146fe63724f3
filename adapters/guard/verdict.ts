import { LOG_PROB_FLOOR, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { meanInterval, signFlipTest, smallestDetectable } from '../statistics/paired-test.ts'
import type { OutOfFold } from './out-of-fold.ts'

/** Share of the jobs with nothing to learn that may publish, both answers together. */
export const GUARD_LEVEL = 0.05
/** For which a smallest gain is stated. */
export const GUARD_POWER = 0.8

/** Answers that need no learning; `label_frequencies` is the best constant one, in hindsight. */
export type Reference = 'base' | 'calibrated_base' | 'bias_only' | 'label_frequencies'

/** An answer held against everything that could do as well with less. */
export type Comparison = {
  /** Mean log loss of each reference less the answer's own, nats; positive is better. */
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
 * Decides whether what was learnt is published. Fixed before any data: an adapter has to beat the
 * base model, the base model under either kind of label bias, and the labels' frequencies; a bias
 * alone the base model and the frequencies; each by a paired one-sided sign-flip test on out-of-fold
 * log loss. An answer's p-value is its largest. The two answers share the level by Holm's rule.
 * So labels that have nothing to do with their inputs are published at most at the level: nothing
 * learnt from them can beat their frequencies but by luck.
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
  const adapter = compare(lossesOf(predictions.adapter, gold), [
    'base',
    'calibrated_base',
    'bias_only',
    'label_frequencies',
  ])
  const biasOnly = compare(losses.bias_only, ['base', 'label_frequencies'])

  const adapterPValue = hasAdapter ? adapter.pValue : 1
  const smaller = Math.min(adapterPValue, biasOnly.pValue)
  const passes = (pValue: number): boolean =>
    smaller <= GUARD_LEVEL / 2 && pValue <= (pValue === smaller ? GUARD_LEVEL / 2 : GUARD_LEVEL)
  if (passes(adapterPValue)) return { outcome: 'published', answer: 'adapter', adapter, biasOnly }
  if (passes(biasOnly.pValue)) {
    return { outcome: 'published', answer: 'bias_only', adapter, biasOnly }
  }
  if (hasAdapter && adapter.gain > 0) {
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
    const differences = meanByGroup(
      losses[reference].map((loss, i) => loss - answer[i]!),
      groups,
    )
    const gain = differences.reduce((sum, value) => sum + value, 0) / differences.length
    return { reference, differences, gain, pValue: signFlipTest(differences) }
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

const lossesOf = (logProbs: LabelLogProbs, gold: readonly number[]): number[] =>
  logProbs.map((row, i) => -Math.max(row[gold[i]!]!, LOG_PROB_FLOOR))

function frequencyLosses(gold: readonly number[]): number[] {
  const counts = new Map<number, number>()
  for (const label of gold) counts.set(label, (counts.get(label) ?? 0) + 1)
  return gold.map((label) => -Math.log(counts.get(label)! / gold.length))
}

/** Examples of one input are no independent witnesses: they count as one. */
function meanByGroup(values: readonly number[], groups: readonly number[]): number[] {
  if (groups.length !== values.length) {
    throw new RangeError(`${groups.length} groups of ${values.length} examples`)
  }
  const members = new Map<number, number[]>()
  values.forEach((value, i) => {
    const known = members.get(groups[i]!)
    if (known === undefined) members.set(groups[i]!, [value])
    else known.push(value)
  })
  return [...members.values()].map((own) => own.reduce((sum, value) => sum + value, 0) / own.length)
}
