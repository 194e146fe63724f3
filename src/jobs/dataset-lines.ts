import type { NumberedExample } from '../files/read-examples.ts'

export type DatasetError = {
  readonly reason:
    | 'too_few_inputs'
    | 'too_few_labels'
    | 'too_many_labels'
    | 'unknown_label'
    | 'systems_differ'
    | 'answers_differ'
    | 'labels_of_targets'
  readonly message: string
  readonly param: 'training_file' | 'validation_file'
}

/** The answer of an example without the white space around it, which no job learns. */
export const answerOf = ({ example }: NumberedExample): string => example.answer.trim()

export const distinctAnswers = (examples: readonly NumberedExample[]): string[] => [
  ...new Set(examples.map(answerOf)),
]

const MAX_NAMED_LINES = 10

export function nameLines(examples: readonly NumberedExample[]): string {
  const lines = examples.slice(0, MAX_NAMED_LINES).map(({ line }) => line)
  const more = examples.length > lines.length ? ` and ${examples.length - lines.length} more` : ''
  return `${lines.join(', ')}${more}`
}
