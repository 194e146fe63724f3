import pLimit from 'p-limit'
import { startPlan, type AnswerContext } from '../answers/answer-context.ts'
import type { GenerationPlan } from '../dispatch/generate.ts'
import type { Urgency } from '../dispatch/urgency.ts'
import type { NumberedExample } from '../files/read-examples.ts'
import type { ComparedArm } from '../protocol/arcana/compare.ts'
import type { ExperimentRow } from '../protocol/arcana/experiment.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { applyFrame } from '../tasks/frame.ts'
import { planArm, planGeneration, type PlannedArm } from '../tasks/plan.ts'
import { collectArms } from './compare.ts'

/** Rows asked at once. A Worker has six connections, and the pool needs one. */
const MAX_IN_FLIGHT = 5

/** A file's labelled rows, ready to be asked. */
export type PlannedExperiment = {
  readonly arms: readonly PlannedArm[]
  readonly plans: readonly GenerationPlan[]
}

/** Plans one request a row; all arms of a row share its prompt. */
export async function planExperiment(
  { requestId, projectId }: Pick<AnswerContext, 'requestId' | 'projectId'>,
  asked: {
    readonly model: string
    readonly examples: readonly NumberedExample[]
    readonly selections: readonly (ResolvedSelection | null)[]
    readonly framing: ResolvedSelection
    readonly labels: readonly string[]
    readonly urgency: Urgency
  },
): Promise<PlannedExperiment> {
  const { model, examples, selections, framing, labels, urgency } = asked
  const arms = await Promise.all(
    selections.map((selection) => planArm(selection, labels, undefined)),
  )
  const plans = examples.map(({ example }) =>
    planGeneration({
      requestId,
      projectId,
      model,
      input: { messages: [...applyFrame(framing.frame, example.messages).messages] },
      arms,
      labels,
      sampling: { maxTokens: undefined, temperature: 0, topP: 1, stop: [] },
      urgency,
    }),
  )
  return { arms, plans }
}

export type Answers = {
  readonly rows: readonly ExperimentRow[]
  /** The arms' answers to each row, [rows][arms]. */
  readonly answers: readonly (readonly ComparedArm[])[]
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly completionTokens: number
  /** Of the first row. */
  readonly runnerId: string
}

/**
 * Asks every row under all arms. If one fails, the others are given up, since a part of a file shows
 * something else than the file.
 * @param names the caller's texts for the arms
 * @throws {ApiError}
 */
export async function askRows(
  context: AnswerContext,
  { arms, plans }: PlannedExperiment,
  examples: readonly NumberedExample[],
  names: readonly string[],
  caller: AbortSignal,
): Promise<Answers> {
  const calls = new AbortController()
  const onAbort = () => {
    calls.abort(caller.reason)
  }
  caller.addEventListener('abort', onAbort, { once: true })
  try {
    const asked = await pLimit(MAX_IN_FLIGHT).map(plans, async (plan) => {
      const generation = await startPlan(context, plan, calls.signal)
      const { arms: answered, numPrefills } = await collectArms(generation, arms, names)
      return { runnerId: generation.runnerId, answered, numPrefills }
    })
    const sum = (valueOf: (row: (typeof asked)[number]) => number): number =>
      asked.reduce((total, row) => total + valueOf(row), 0)
    return {
      rows: examples.map(({ example, line }, i) => ({
        line,
        label: example.answer.trim(),
        answers: asked[i]!.answered.map(({ message }) => message.content),
      })),
      answers: asked.map(({ answered }) => answered),
      promptTokens: sum(
        ({ answered, numPrefills }) => answered[0]!.usage.prompt_tokens * numPrefills,
      ),
      cachedTokens: sum(({ answered }) => answered[0]!.usage.prompt_tokens_details.cached_tokens),
      completionTokens: sum(({ answered }) =>
        answered.reduce((total, { usage }) => total + usage.completion_tokens, 0),
      ),
      runnerId: asked[0]!.runnerId,
    }
  } catch (error) {
    calls.abort()
    throw error
  } finally {
    caller.removeEventListener('abort', onAbort)
  }
}
