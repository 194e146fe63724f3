import { checkString } from '../../../adapters/graders/string-check.ts'
import { textSimilarity } from '../../../adapters/graders/text-similarity.ts'
import type { TextGrader } from '../../protocol/openai/graders.ts'
import { servicesOf } from '../../services.ts'
import type { StepContext } from '../step.ts'
import type { GradedItem } from './graded-item.ts'
import { fillTemplate } from './grader-templates.ts'
import { askWebhook } from './http-grader.ts'
import { inPool } from './pool.ts'
import { askTask } from './task-grader.ts'

/** How many calls a grader gets at a time. */
const NUM_CALLS_TOGETHER = 4

/**
 * Has a job's grader score answers. It asks about equal items only once.
 * @returns a finite score for each item
 * @throws {JobFailure} `grader_failed`; {RunnerCallFailure} no runner can answer for the grader's task now
 */
export async function gradeTexts(
  context: StepContext,
  items: readonly GradedItem[],
): Promise<number[]> {
  const { grader } = context.spec
  if (grader == null) throw new Error('this job on rewards has no grader')
  const keys = items.map(({ input, output, target }) => JSON.stringify([input, output, target]))
  const distinct = [...new Map(keys.map((key, i) => [key, items[i]!]))]
  const scores = await inPool(distinct, NUM_CALLS_TOGETHER, ([, item]) =>
    grade(context, grader, item),
  )
  const scoreOf = new Map(distinct.map(([key], i) => [key, scores[i]!]))
  return keys.map((key) => scoreOf.get(key)!)
}

async function grade(context: StepContext, grader: TextGrader, item: GradedItem): Promise<number> {
  switch (grader.type) {
    case 'string_check':
      return checkString(
        fillTemplate(grader.input, item),
        fillTemplate(grader.reference, item),
        grader.operation,
      )
    case 'text_similarity':
      return textSimilarity(
        fillTemplate(grader.input, item),
        fillTemplate(grader.reference, item),
        grader.evaluation_metric,
      )
    case 'task':
      return askTask(context, grader, fillTemplate(grader.input, item))
    case 'http':
      return askWebhook(grader, item, {
        allowedHosts: servicesOf(context.env).config.graderHosts,
        signal: context.signal,
      })
  }
}
