import type { JobWarning } from '../protocol/openai/fine-tuning.ts'
import type { NumberedExample } from './dataset.ts'

const MAX_NAMED_LINES = 10

/** Equal for examples of one conversation, whatever their answers: the index of the first of them. */
export function groupInputs(examples: readonly NumberedExample[]): number[] {
  const firsts = new Map<string, number>()
  return examples.map(({ example }, index) => {
    const input = JSON.stringify(
      example.messages.map(({ role, content }) => [role, content.trim()]),
    )
    const first = firsts.get(input) ?? index
    firsts.set(input, first)
    return first
  })
}

/**
 * What an owner should know of the examples; none of it stops a job.
 * @param labels null where the answers are texts of their own, of which an input may have several
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
  return warnings
}

const count = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`

function named(lines: readonly number[]): string {
  const shown = lines.slice(0, MAX_NAMED_LINES)
  const more = lines.length > shown.length ? ` and ${lines.length - shown.length} more` : ''
  return `line ${shown.join(', ')}${more}`
}
