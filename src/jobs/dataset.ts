import { fail, ok, type Result } from '../../adapters/result.ts'
import type { TextGrader } from '../protocol/openai/graders.ts'
import type { JobWarning } from '../protocol/openai/job-report.ts'
import type { Objective } from '../protocol/openai/objective.ts'
import { MAX_LABEL_CHARS } from '../protocol/runner.ts'
import type { Dataset } from '../protocol/runner-scoring.ts'
import type { Frame } from '../tasks/frame.ts'
import { distinctAnswers, nameLines, type DatasetError } from './dataset-lines.ts'
import { objectiveOf } from './objectives/objectives.ts'
import type { NumberedExample } from '../files/read-examples.ts'
import type { RewardSet } from './rewards/reward-set.ts'
import type { ObjectiveLines } from './step.ts'
import { findWarnings, groupInputs } from './warnings.ts'

export type JobDatasets = {
  readonly objective: Objective
  readonly frame: Frame
  /** Empty unless the objective is "label". */
  readonly labels: readonly string[]
  readonly training: Dataset | RewardSet
  readonly validation: Dataset | RewardSet | null
  /** Training examples with the same input have the same number. A pair is two examples. */
  readonly groups: readonly number[]
  readonly warnings: readonly JobWarning[]
}

/**
 * Turns a job's files into the datasets that a runner scores. Each example has its prompt in the
 * task's frame, as requests will have it, and its answer: the index of a label, or a target.
 */
export function buildDatasets(
  training: readonly NumberedExample[],
  validation: readonly NumberedExample[] | null,
  options: {
    readonly instructions: string | null
    readonly position: Frame['position']
    readonly labels: readonly string[] | null
    /** If null, the lines of the files decide. */
    readonly objective: Objective | null
    /** Null unless the objective is "reward". */
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
            `line ${other.line} has another system message than the first example; give all lines ` +
            'the same one, or set method.rotation.instructions',
          param,
        })
      }
    }
  }
  const frame = { instructions, position: options.position }
  const objective = options.objective ?? readObjective(training, options.labels)
  const { hasLabels, hasPairs, lines } = objectiveOf({ objective })
  const fault =
    checkKinds(training, lines, options.grader, 'training_file') ??
    checkKinds(validation ?? [], lines, options.grader, 'validation_file')
  if (fault !== null) return fail(fault)
  const settled = lines.settleLabels(options.labels, training)
  if (!settled.ok) return settled
  const labels = settled.value
  const groups = groupInputs(training)
  if (new Set(groups).size < 2) {
    return fail({
      reason: 'too_few_inputs',
      message: 'all examples have the same input; learning needs two inputs or more',
      param: 'training_file',
    })
  }
  const warnings = findWarnings(training, groups, hasLabels ? labels : null)
  const trainingSet = lines.toDataset(training, labels, frame, 'training_file')
  if (!trainingSet.ok) return trainingSet
  const validationSet =
    validation === null ? ok(null) : lines.toDataset(validation, labels, frame, 'validation_file')
  if (!validationSet.ok) return validationSet
  return ok({
    objective,
    frame,
    labels,
    training: trainingSet.value,
    validation: validationSet.value,
    groups: hasPairs ? groups.flatMap((group) => [group, group]) : groups,
    warnings,
  })
}

/**
 * Reads from the lines what the job learns. The last message of a chat may be a label or a target.
 * It is a label if the job names labels, or if answers recur: at most half as many different ones
 * as lines.
 */
function readObjective(
  examples: readonly NumberedExample[],
  labels: readonly string[] | null,
): Objective {
  if (labels !== null) return 'label'
  const said = examples.find(({ example }) => example.kind !== 'message')?.example.kind
  if (said === 'label' || said === 'target') return said
  if (said === 'pair') return 'preference'
  // The lines of "target" then refuse the file: it holds nothing to learn.
  if (said === 'none') return 'target'
  const answers = distinctAnswers(examples)
  const isShort = answers.every((answer) => answer.length <= MAX_LABEL_CHARS)
  return isShort && 2 * answers.length <= examples.length ? 'label' : 'target'
}

function checkKinds(
  examples: readonly NumberedExample[],
  lines: ObjectiveLines,
  grader: TextGrader | null,
  param: DatasetError['param'],
): DatasetError | null {
  const others = examples.filter(({ example }) => !lines.takes(example.kind, grader))
  const [first] = others
  if (first === undefined) return null
  return {
    reason: 'answers_differ',
    message:
      `${lines.wants}, ` +
      `and there is ${first.example.kind === 'none' ? 'no answer' : `a ${first.example.kind}`} ` +
      `in line ${nameLines(others)}`,
    param,
  }
}
