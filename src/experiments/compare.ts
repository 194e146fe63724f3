import type { Generation } from '../dispatch/generate.ts'
import { toApiError } from '../dispatch/runner-error.ts'
import { usageOf, type EndEvent } from '../dispatch/count-usage.ts'
import type { Config } from '../env.ts'
import type { ComparedArm, Comparison } from '../protocol/arcana/compare.ts'
import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import type { GenerateEvent, LabelProbability } from '../protocol/runner.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { calibrateLabels } from '../tasks/confidence.ts'
import { proofOf } from '../tasks/answer-proof.ts'
import type { PlannedArm } from '../tasks/plan.ts'
import { readModel } from '../tasks/requested-model.ts'
import { readSelection, resolveSelection } from '../tasks/resolve.ts'
import { BASE_NAME } from '../tasks/selection.ts'

/**
 * The base model of a request whose arms name its tasks.
 * @param text the request's `model`; if absent, the default model
 * @param what the request, as an error's message begins: "A comparison"
 * @throws {ApiError} 404 for a model that is not served, 400 if it names a task
 */
export function readArmsModel(config: Config, text: string | undefined, what: string): string {
  const { model, selection } = readModel(config, text)
  if (selection === null) return model
  throw invalidRequest(`${what} names its tasks in arms, not in model.`, 'model')
}

/**
 * @param arms the caller's texts; `base` is the base model alone, null in the result
 * @throws {ApiError} naming the arm
 */
export async function resolveArms(
  db: D1Database,
  projectId: string,
  model: string,
  arms: readonly string[],
): Promise<readonly (ResolvedSelection | null)[]> {
  const selections: (ResolvedSelection | null)[] = []
  for (const [i, name] of arms.entries()) {
    const param = `arms[${i}]`
    if (name.trim() === BASE_NAME) selections.push(null)
    else {
      const terms = readSelection(name, param)
      selections.push(await resolveSelection(db, projectId, model, terms, param))
    }
  }
  return selections
}

/**
 * Checks that arms can be compared: all were learnt on one base model, and all that have labels have
 * those of the frame's task.
 * @param frameOf the selection whose frame all arms use
 * @throws {ApiError} 400 naming the arm
 */
export function checkArms(
  selections: readonly (ResolvedSelection | null)[],
  frameOf: ResolvedSelection,
  labels: readonly string[] | null,
): void {
  selections.forEach((selection, i) => {
    if (selection === null) return
    if (selection.modelDigest !== frameOf.modelDigest) {
      throw invalidRequest(
        `"${selection.expression}" and "${frameOf.expression}" were learnt on different models.`,
        `arms[${i}]`,
        'models_differ',
      )
    }
    if (labels === null || selection.labels === null) return
    const own = new Set(selection.labels)
    if (own.size !== labels.length || labels.some((label) => !own.has(label))) {
      throw invalidRequest(
        `"${selection.expression}" has other labels than "${frameOf.expression}", whose frame ` +
          'all arms use; send x-arcana-choice: off to compare free answers.',
        `arms[${i}]`,
        'labels_differ',
      )
    }
  })
}

/** The answer of one arm so far. */
class ArmRecord {
  text = ''
  readonly ids: number[] = []
  labels: readonly LabelProbability[] | undefined
  end: EndEvent | null = null
}

export type CollectedArms = {
  readonly arms: readonly ComparedArm[]
  readonly numPrefills: number
}

/**
 * Collects the answers of all arms.
 * @param names the caller's texts for the arms
 * @throws {ApiError} if any arm fails, since the others alone are no comparison
 */
export async function collectArms(
  generation: Generation,
  planned: readonly PlannedArm[],
  names: readonly string[],
): Promise<CollectedArms> {
  const records = planned.map(() => new ArmRecord())
  let numPrefills = 0
  try {
    for await (const event of generation.events) {
      if (event.event === 'done') numPrefills = event.num_prefills
      else if (event.arm !== null) record(records[event.arm]!, event)
    }
  } catch (error) {
    throw toApiError(error)
  }
  const first = records[0]!.ids
  const arms = records.map((armRecord, index): ComparedArm => {
    const { text, ids, labels: own, end } = armRecord
    const labels = own === undefined ? undefined : calibrateLabels(own, planned[index]!.selection)
    if (end === null) throw new ApiError(502, `Arm ${index} of the comparison did not end.`)
    return {
      index,
      arm: names[index]!,
      message: { role: 'assistant', content: text },
      labels: labels ?? null,
      finish_reason: end.finish_reason,
      usage: usageOf([end]),
      first_diverging_token: index === 0 ? null : firstDivergence(first, ids),
      first_token_ms: end.first_token_ms,
      total_ms: end.total_ms,
      arcana: proofOf(planned[index]!.selection, end.applied, generation.runnerId, own),
    }
  })
  return { arms, numPrefills }
}

function record(armRecord: ArmRecord, event: GenerateEvent): void {
  if (event.event === 'token') {
    armRecord.text += event.text
    armRecord.ids.push(...event.ids)
  } else if (event.event === 'labels') armRecord.labels = event.labels
  else if (event.event === 'end') armRecord.end = event
}

/** Where two answers begin to differ; an answer differs from a longer one where it ends. */
function firstDivergence(a: readonly number[], b: readonly number[]): number | null {
  const shared = Math.min(a.length, b.length)
  for (let i = 0; i < shared; i++) if (a[i] !== b[i]) return i
  return a.length === b.length ? null : shared
}

/** All arms have the frame of the first task. */
export function describeFrame(
  selections: readonly (ResolvedSelection | null)[],
  replaced: boolean,
): Comparison['frame'] {
  const arm = selections.findIndex((selection) => selection !== null)
  const selection = selections[arm]
  if (selection == null) return null
  const { version } = selection.terms[0]!
  return {
    arm,
    task: version.task,
    version: version.number,
    ...selection.frame,
    labels: selection.labels,
    replaced,
  }
}
