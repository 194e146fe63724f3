import { collectAnswers } from '../../dispatch/collect.ts'
import { startGeneration } from '../../dispatch/generate.ts'
import { RunnerCallFailure } from '../../dispatch/runner-client.ts'
import { ApiError } from '../../protocol/openai/error.ts'
import type { TextGrader } from '../../protocol/openai/graders.ts'
import { calibrateLabels } from '../../tasks/confidence.ts'
import { applyFrame } from '../../tasks/frame.ts'
import { planArm, planGeneration } from '../../tasks/plan.ts'
import { readSelection, resolveSelection } from '../../tasks/resolve.ts'
import { readAdapter } from '../../tasks/stored-adapter.ts'
import { JobFailure } from '../faults.ts'
import type { StepContext } from '../step.ts'

/**
 * Asks a task how probable a label is for a text. The answer is what a request to the task would
 * get.
 * @throws {JobFailure} the task is gone or cannot read the text; {RunnerCallFailure} another try may
 * succeed
 */
export async function askTask(
  { env, runners, spec, signal }: StepContext,
  grader: TextGrader & { readonly type: 'task' },
  text: string,
): Promise<number> {
  try {
    const terms = readSelection(grader.task, 'task')
    const selection = await resolveSelection(env.DB, spec.projectId, spec.model, terms, 'task')
    const { messages } = applyFrame(selection.frame, [{ role: 'user', content: text }])
    const plan = planGeneration({
      requestId: `${spec.id}-grader`,
      projectId: spec.projectId,
      model: spec.model,
      input: { messages: [...messages] },
      arms: [await planArm(selection, selection.labels, undefined)],
      labels: selection.labels,
      sampling: { maxTokens: undefined, temperature: 0, topP: 1, stop: [] },
      urgency: { tier: 'flex', deadlineAtMs: undefined },
    })
    const place = {
      pool: runners,
      readAdapter: (digest: string) => readAdapter(env, spec.projectId, digest),
    }
    const [answer] = await collectAnswers(await startGeneration(place, plan, signal))
    const labels = calibrateLabels(answer?.labels ?? [], selection)
    const found = labels.find(({ label }) => label === grader.label)
    if (found !== undefined) return found.probability
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    const message = `the grader’s task ${grader.task} gave no answer: ${error.message}`
    const mayPass = !error.isFinal && (error.status >= 500 || error.status === 429)
    if (mayPass) throw new RunnerCallFailure('unreachable', message)
    throw new JobFailure('grader_failed', message, 'method')
  }
  throw new JobFailure(
    'grader_failed',
    `The grader’s task ${grader.task} has no label "${grader.label}".`,
    'method',
  )
}
