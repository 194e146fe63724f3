import { fail, ok, type Result } from '../../adapters/result.ts'
import type { JobWarning } from '../protocol/openai/job-report.ts'
import type { Objective } from '../protocol/openai/objective.ts'
import { needsTarget, type TextGrader } from '../protocol/openai/graders.ts'
import { MAX_LABEL_CHARS, MAX_LABELS, type PromptMessage } from '../protocol/runner.ts'
import type { Dataset, LabelDataset, TargetDataset } from '../protocol/runner-scoring.ts'
import { applyFrame, type Frame } from '../tasks/frame.ts'
import type { NumberedExample } from './read-examples.ts'
import { findWarnings, groupInputs } from './warnings.ts'

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

export type JobDatasets = {
  readonly objective: Objective
  readonly frame: Frame
  /** None where the answers are texts of their own. */
  readonly labels: readonly string[]
  readonly training: Dataset | RewardSet
  readonly validation: Dataset | RewardSet | null
  /** Equal for training examples of one input; a pair is two examples. */
  readonly groups: readonly number[]
  readonly warnings: readonly JobWarning[]
}

/**
 * Turns a job's files into what a runner scores: each example's prompt in the task's frame, as it
 * will be asked when served, and the index of its label or its target.
 */
export function buildDatasets(
  training: readonly NumberedExample[],
  validation: readonly NumberedExample[] | null,
  options: {
    readonly instructions: string | null
    readonly position: Frame['position']
    readonly labels: readonly string[] | null
    /** Null leaves it to the files. */
    readonly objective: Objective | null
    /** Of the objective "reward". */
    readonly grader: TextGrader | null
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
  const objective = options.objective ?? objectiveOf(training, options.labels)
  const fault =
    checkKinds(training, objective, options.grader, 'training_file') ??
    checkKinds(validation ?? [], objective, options.grader, 'validation_file')
  if (fault !== null) return fail(fault)
  if (objective === 'target' && options.labels !== null) {
    return fail({
      reason: 'labels_of_targets',
      message: 'the answers are targets, and method.rotation.labels names labels',
      param: 'training_file',
    })
  }
  const labels = objective !== 'label' ? [] : (options.labels ?? distinctAnswers(training))
  const labelFault = objective !== 'label' ? null : checkLabels(labels)
  if (labelFault !== null) return fail(labelFault)
  const groups = groupInputs(training)
  if (new Set(groups).size < 2) {
    return fail({
      reason: 'too_few_inputs',
      message: 'all examples have the same input; learning needs two inputs or more',
      param: 'training_file',
    })
  }
  const warnings = findWarnings(training, groups, objective === 'label' ? labels : null)
  const toSet = (
    examples: readonly NumberedExample[],
    param: DatasetError['param'],
  ): Result<Dataset | RewardSet, DatasetError> => {
    if (objective === 'label') return toLabelDataset(examples, labels, frame, param)
    if (objective === 'preference') return ok(toPairDataset(examples, frame))
    return ok(
      objective === 'target' ? toTargetDataset(examples, frame) : toRewardSet(examples, frame),
    )
  }
  const trainingSet = toSet(training, 'training_file')
  if (!trainingSet.ok) return trainingSet
  const validationSet = validation === null ? ok(null) : toSet(validation, 'validation_file')
  if (!validationSet.ok) return validationSet
  return ok({
    objective,
    frame,
    labels,
    training: trainingSet.value,
    validation: validationSet.value,
    groups: objective === 'preference' ? groups.flatMap((group) => [group, group]) : groups,
    warnings,
  })
}

/**
 * What the lines say they hold. The last messages of chats are labels where the job names labels, or
 * where they recur as labels do: at most half as many different answers as lines.
 */
function objectiveOf(
  examples: readonly NumberedExample[],
  labels: readonly string[] | null,
): Objective {
  if (labels !== null) return 'label'
  const said = examples.find(({ example }) => example.kind !== 'message')?.example.kind
  if (said === 'label' || said === 'target') return said
  if (said === 'pair') return 'preference'
  // Which is then refused by its lines: what is to be learnt is not there.
  if (said === 'none') return 'target'
  const answers = distinctAnswers(examples)
  const isShort = answers.every((answer) => answer.length <= MAX_LABEL_CHARS)
  return isShort && 2 * answers.length <= examples.length ? 'label' : 'target'
}

const LEARNT: Readonly<Record<Objective, string>> = {
  label: 'the job learns labels',
  target: 'the job learns targets',
  preference: 'the job learns pairs',
  reward: 'the grader compares with targets',
}

function checkKinds(
  examples: readonly NumberedExample[],
  objective: Objective,
  grader: TextGrader | null,
  param: DatasetError['param'],
): DatasetError | null {
  const isOther = ({ example: { kind } }: NumberedExample) =>
    objective === 'reward'
      ? kind === 'none' && grader !== null && needsTarget(grader)
      : objective === 'preference'
        ? kind !== 'pair'
        : kind !== 'message' && kind !== objective
  const others = examples.filter(isOther)
  const [first] = others
  if (first === undefined) return null
  return {
    reason: 'answers_differ',
    message:
      `${LEARNT[objective]}, ` +
      `and there is ${first.example.kind === 'none' ? 'no answer' : `a ${first.example.kind}`} ` +
      `in line ${nameLines(others)}`,
    param,
  }
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
      message: `a classification task cannot have what the file has: ${what}; texts are learnt with the objective "target"`,
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

function nameLines(examples: readonly NumberedExample[]): string {
  const lines = examples.slice(0, MAX_NAMED_LINES).map(({ line }) => line)
  const more = examples.length > lines.length ? ` and ${examples.length - lines.length} more` : ''
  return `${lines.join(', ')}${more}`
}

/** Prompts whose answers are generated and graded, kept in R2 while the job runs. */
export type RewardSet = {
  readonly examples: readonly {
    readonly messages: readonly PromptMessage[]
    /** The last user message, without the frame. */
    readonly input: string
    readonly target: string | null
  }[]
}

const toRewardSet = (examples: readonly NumberedExample[], frame: Frame): RewardSet => ({
  examples: examples.map(({ example }) => ({
    messages: applyFrame(frame, example.messages).messages,
    input: example.messages.findLast(({ role }) => role === 'user')?.content ?? '',
    target: example.kind === 'none' ? null : example.answer.trim(),
  })),
})

/** The preferred text of each pair, then its rejected one. */
const toPairDataset = (examples: readonly NumberedExample[], frame: Frame): TargetDataset => ({
  examples: examples.flatMap(({ example }) => {
    const messages = [...applyFrame(frame, example.messages).messages]
    return [example.answer, example.rejected ?? ''].map((text) => ({
      messages,
      target: text.trim(),
    }))
  }),
})

/** Targets stand as they are given, but for white space around them. */
const toTargetDataset = (examples: readonly NumberedExample[], frame: Frame): TargetDataset => ({
  examples: examples.map(({ example }) => ({
    messages: [...applyFrame(frame, example.messages).messages],
    target: example.answer.trim(),
  })),
})

function toLabelDataset(
  examples: readonly NumberedExample[],
  labels: readonly string[],
  frame: Frame,
  param: DatasetError['param'],
): Result<LabelDataset, DatasetError> {
  const indices = new Map(labels.map((label, i) => [label, i]))
  const unknown = examples.filter((numbered) => !indices.has(labelOf(numbered)))
  if (unknown.length > 0) {
    return fail({
      reason: 'unknown_label',
      message: `the answer is none of the labels in line ${nameLines(unknown)}`,
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
