import type { BaseKnowledge, GuardReport, JobWarning } from '../protocol/openai/job-report.ts'
import type { LineNote } from '../files/training-line.ts'
import type { NumberedExample } from '../files/read-examples.ts'
import { findSimilarLabels } from './similar-labels.ts'

const MAX_NAMED_LINES = 10
const MAX_NAMED_PAIRS = 5

/**
 * Gives each example the index of the first example with the same conversation, whatever the
 * answers.
 */
export function groupInputs(examples: readonly NumberedExample[]): number[] {
  const firsts = new Map<string, number>()
  return examples.map(({ example }, index) => {
    const input = JSON.stringify(
      example.messages.map(({ role, content, name }) => [role, content.trim(), name]),
    )
    const first = firsts.get(input) ?? index
    firsts.set(input, first)
    return first
  })
}

/** The warnings for what `parseTrainingLine` notes about lines. */
const NOTED: readonly {
  readonly note: LineNote
  readonly message: (lines: readonly number[]) => string
}[] = [
  {
    note: 'earlier_answers',
    message: (lines) =>
      `${count(lines.length, 'line has', 'lines have')} weight 1 on an answer before the last: ` +
      `${named(lines)}. The last answer of a line is learnt; those before it are context.`,
  },
  {
    note: 'label_not_text',
    message: (lines) =>
      `${count(lines.length, 'line has', 'lines have')} a number or a boolean for a label: ` +
      `${named(lines)}. The task answers with its text, as in "1" or "true".`,
  },
]

/**
 * What a job's owner should know about the examples. None of it stops the job.
 * @param labels null unless the job learns labels; an input may have several texts, but only one
 * label
 */
export function findWarnings(
  examples: readonly NumberedExample[],
  groups: readonly number[],
  labels: readonly string[] | null,
): JobWarning[] {
  const warnings: JobWarning[] = []
  const answerOf = (index: number) => examples[index]!.example.answer.trim()
  const repeated = examples.flatMap(({ line }, i) => (groups[i] === i ? [] : [line]))
  if (repeated.length > 0) {
    warnings.push({
      code: 'duplicate_inputs',
      message:
        `${count(repeated.length, 'line repeats', 'lines repeat')} an earlier input: ` +
        `${named(repeated)}. Lines of one input are judged as one.`,
      lines: repeated.slice(0, MAX_NAMED_LINES),
    })
  }
  for (const { note, message } of NOTED) {
    const lines = examples.flatMap(({ line, example }) =>
      example.notes?.includes(note) ? [line] : [],
    )
    if (lines.length > 0) {
      warnings.push({ code: note, message: message(lines), lines: lines.slice(0, MAX_NAMED_LINES) })
    }
  }
  if (labels === null) return warnings
  const conflicting = examples.flatMap(({ line }, i) =>
    answerOf(i) === answerOf(groups[i]!) ? [] : [line],
  )
  if (conflicting.length > 0) {
    warnings.push({
      code: 'conflicting_labels',
      message:
        `${count(conflicting.length, 'line has', 'lines have')} another label than an earlier ` +
        `line of the same input: ${named(conflicting)}.`,
      lines: conflicting.slice(0, MAX_NAMED_LINES),
    })
  }
  const used = new Set(examples.map((_, i) => answerOf(i)))
  const missing = labels.filter((label) => !used.has(label))
  if (missing.length > 0) {
    const names = missing.slice(0, MAX_NAMED_LINES).map((label) => JSON.stringify(label))
    const more = missing.length > names.length ? ` and ${missing.length - names.length} more` : ''
    warnings.push({
      code: 'missing_classes',
      message: `${count(missing.length, 'label has', 'labels have')} no example: ${names.join(', ')}${more}.`,
      lines: [],
    })
  }
  const similar = findSimilarLabels(labels)
  if (similar.length > 0) {
    const pairs = similar.slice(0, MAX_NAMED_PAIRS).map((pair) => pair.join(' and '))
    const more = similar.length > pairs.length ? `; and ${similar.length - pairs.length} more` : ''
    warnings.push({
      code: 'similar_labels',
      message:
        `${count(similar.length, 'pair of labels looks', 'pairs of labels look')} alike, and each ` +
        `is learnt as a label of its own: ${pairs.join('; ')}${more}. If one is meant, write it ` +
        'one way.',
      lines: [],
    })
  }
  return warnings
}

/**
 * Warns if the base model seems to know nothing of the task: it does no better than chance, under
 * any label bias, and what was learnt is not shown to help either.
 */
export function warnOfChance(
  { p_value: pValue, level, num_examples: numExamples }: BaseKnowledge,
  guard: GuardReport,
): JobWarning | null {
  if (pValue <= level || guard.would_publish !== null) return null
  const { base, calibrated_base: calibrated, adapter } = guard.out_of_fold
  const numLabels = base.per_class.filter(({ num_examples: n }) => n > 0).length
  const share = ({ balanced_accuracy: value }: { readonly balanced_accuracy: number }) =>
    value.toFixed(2)
  return {
    code: 'base_knows_nothing',
    message:
      `Nothing shows that the base model knows anything of this task: over ${numExamples} examples ` +
      'the right labels are no likelier to it than the same labels dealt out at random ' +
      `(p = ${pValue.toFixed(2)}), and nothing learnt from them is shown to help. Balanced accuracy: ` +
      `base ${share(base)}, calibrated ${share(calibrated)}, learnt ${share(adapter)} out of fold; ` +
      `chance is ${(1 / numLabels).toFixed(2)}. Until more examples show otherwise, take this ` +
      'task’s answers for guesses; other instructions or label words may help.',
    lines: [],
  }
}

const count = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`

function named(lines: readonly number[]): string {
  const shown = lines.slice(0, MAX_NAMED_LINES)
  const more = lines.length > shown.length ? ` and ${lines.length - shown.length} more` : ''
  return `line ${shown.join(', ')}${more}`
}
