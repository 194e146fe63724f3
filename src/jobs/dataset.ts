import { fail, ok, type Result } from '../../adapters/result.ts'
import type { TrainingExample } from '../files/training-line.ts'
import type { JobWarning } from '../protocol/openai/fine-tuning.ts'
import { MAX_LABEL_CHARS, MAX_LABELS, type Dataset } from '../protocol/runner.ts'
import { applyFrame, type Frame } from '../tasks/frame.ts'
import { findWarnings, groupInputs } from './warnings.ts'

/** An example and the line of its file that holds it. */
export type NumberedExample = { readonly example: TrainingExample; readonly line: number }

export type DatasetError = {
  readonly reason:
    'too_few_inputs' | 'too_few_labels' | 'too_many_labels' | 'unknown_label' | 'systems_differ'
  readonly message: string
  readonly param: 'training_file' | 'validation_file'
}

export type JobDatasets = {
  readonly frame: Frame
  readonly labels: readonly string[]
  readonly training: Dataset
  readonly validation: Dataset | null
  /** Equal for training examples of one input. */
  readonly groups: readonly number[]
  readonly warnings: readonly JobWarning[]
}

/**
 * Turns a job's files into what a runner scores: each example's prompt in the task's frame, as it
 * will be asked when served, and the index of its label.
 */
export function buildDatasets(
  training: readonly NumberedExample[],
  validation: readonly NumberedExample[] | null,
  options: {
    readonly instructions: string | null
    readonly position: Frame['position']
    readonly labels: readonly string[] | null
  },
): Result<JobDatasets, DatasetError> {
  let { instructions } = options
  if (instructions === null) {
    instructions = training[0]?.example.system ?? null
    for (const [param, examples] of [
      ['training_file', training],
      ['validation_file', validation ?? []],
    ] as const) {
      const other = examples.find(({ example }) => example.system !== instructions)
      if (other !== undefined) {
        return fail({
          reason: 'systems_differ',
          message:
            `line ${other.line} has another system message than the first example; ` +
            'give one for all in method.rotation.instructions, or the same in every line',
          param,
        })
      }
    }
  }
  const frame = { instructions, position: options.position }
  const labels = options.labels ?? distinctAnswers(training)
  const fault = checkLabels(labels)
  if (fault !== null) return fail(fault)
  const groups = groupInputs(training)
  if (new Set(groups).size < 2) {
    return fail({
      reason: 'too_few_inputs',
      message: 'all examples have the same input; learning needs two inputs or more',
      param: 'training_file',
    })
  }
  const warnings = findWarnings(training, groups, labels)
  const trainingSet = toDataset(training, labels, frame, 'training_file')
  if (!trainingSet.ok) return trainingSet
  if (validation === null) {
    return ok({ frame, labels, training: trainingSet.value, validation: null, groups, warnings })
  }
  const validationSet = toDataset(validation, labels, frame, 'validation_file')
  if (!validationSet.ok) return validationSet
  return ok({
    frame,
    labels,
    training: trainingSet.value,
    validation: validationSet.value,
    groups,
    warnings,
  })
}

const labelOf = ({ example }: NumberedExample) => example.answer.trim()

const distinctAnswers = (examples: readonly NumberedExample[]) => [
  ...new Set(examples.map(labelOf)),
]

function checkLabels(labels: readonly string[]): DatasetError | null {
  const tooLong = labels.find((label) => label.length > MAX_LABEL_CHARS)
  if (labels.length > MAX_LABELS || tooLong !== undefined) {
    const what =
      tooLong === undefined
        ? `${labels.length} distinct answers, at most ${MAX_LABELS} are allowed`
        : `an answer of ${tooLong.length} characters, at most ${MAX_LABEL_CHARS} are allowed`
    return {
      reason: 'too_many_labels',
      message: `this release learns classification tasks; the file has ${what}`,
      param: 'training_file',
    }
  }
  if (labels.length >= 2) return null
  return {
    reason: 'too_few_labels',
    message: 'all examples have the same answer; a classification task needs two labels or more',
    param: 'training_file',
  }
}

const MAX_NAMED_LINES = 10

function toDataset(
  examples: readonly NumberedExample[],
  labels: readonly string[],
  frame: Frame,
  param: DatasetError['param'],
): Result<Dataset, DatasetError> {
  const indices = new Map(labels.map((label, i) => [label, i]))
  const unknown = examples.filter((numbered) => !indices.has(labelOf(numbered)))
  if (unknown.length > 0) {
    const lines = unknown.slice(0, MAX_NAMED_LINES).map(({ line }) => line)
    const more = unknown.length > lines.length ? ` and ${unknown.length - lines.length} more` : ''
    return fail({
      reason: 'unknown_label',
      message: `the answer is none of the labels in line ${lines.join(', ')}${more}`,
      param,
    })
  }
  return ok({
    labels: [...labels],
    examples: examples.map((numbered) => ({
      messages: [...applyFrame(frame, numbered.example.messages).messages],
      label: indices.get(labelOf(numbered))!,
    })),
  })
}
