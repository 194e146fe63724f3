/** Writes what the guard found in sentences for the job's owner. */
import type { TextVerdict } from '../../adapters/guard/text-verdict.ts'
import type { JudgedAnswer } from '../../adapters/guard/verdict.ts'
import type { ClassificationMetrics, GuardReport } from '../protocol/openai/job-report.ts'

const ANSWER_NAMES = { adapter: 'The adapter', bias_only: 'A label bias alone' } as const

/** Says what was found, what it was compared with, and what would settle a promising outcome. */
export function summariseLabels(
  outcome: GuardReport['outcome'],
  answer: GuardReport['answer'],
  judged: JudgedAnswer,
  measured: GuardReport['out_of_fold'],
  numExamples: number,
  {
    moreExamples,
    numPartitions,
  }: { readonly moreExamples: number | null; readonly numPartitions: number },
): string {
  const name = ANSWER_NAMES[answer]
  const { base, bias_only: bias } = measured
  const own = measured[answer]
  const right = ({ accuracy }: ClassificationMetrics) => Math.round(accuracy * numExamples)
  const balanced = ({ balanced_accuracy: value }: ClassificationMetrics) => value.toFixed(2)
  const counted =
    `answers ${right(own)} of ${numExamples} examples right that it did not learn from, and the ` +
    `base model ${right(base)} (balanced accuracy ${balanced(own)} against ${balanced(base)})`
  const chance =
    `labels dealt out at random fit as well with probability ${formatP(judged.pValue)}` +
    (numPartitions === 1 ? '' : `, by ${numPartitions} divisions of the examples into folds`)
  switch (outcome) {
    case 'proven':
      return `${name} helps: it ${counted}; ${chance}.`
    case 'bias_only':
      return (
        `A label bias alone helps: it ${counted}; ${chance}. ` +
        `The rotation adds nothing to it (balanced accuracy ${balanced(measured.adapter)}).`
      )
    case 'promising':
      return `${name} may help, but this is not shown yet: it ${counted}; ${chance}. ${describeNeed(moreExamples)}`
    case 'no_gain':
      return (
        `Nothing learnt helps: of ${numExamples} examples that it did not learn from, the adapter ` +
        `answers ${right(measured.adapter)} right, a label bias alone ${right(bias)} and the base ` +
        `model ${right(base)} (balanced accuracy ${balanced(measured.adapter)}, ${balanced(bias)} ` +
        `and ${balanced(base)}).`
      )
  }
}

/** How many more examples would settle a promising outcome. */
function describeNeed(moreExamples: number | null): string {
  return moreExamples === null
    ? 'These examples say too little to tell how many more would settle it.'
    : `About ${moreExamples} more ${moreExamples === 1 ? 'example' : 'examples'} would settle it.`
}

/** A small p-value is never written as 0. */
const formatP = (pValue: number): string => (pValue < 0.001 ? 'below 0.001' : pValue.toFixed(3))

/** @param unit follows the number of a gain, such as " nats a token" */
export function summariseTexts(
  { outcome, gain, pValue, numExamples }: TextVerdict,
  unit: string,
  moreExamples: number | null,
): string {
  const found =
    `on ${numExamples} examples that it did not learn from, its gain over the base model is ` +
    `${gain.toFixed(3)}${unit} (p = ${formatP(pValue)})`
  switch (outcome) {
    case 'proven':
      return `The adapter helps: ${found}.`
    case 'promising':
      return `The adapter may help, but this is not shown yet: ${found}. ${describeNeed(moreExamples)}`
    case 'no_gain':
      return `Nothing learnt helps: ${found}.`
  }
}
