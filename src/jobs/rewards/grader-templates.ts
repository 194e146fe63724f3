import {
  TEMPLATE_PATTERN,
  type TemplateField,
  type TextGrader,
} from '../../protocol/openai/graders.ts'
import type { GradedItem } from './graded-item.ts'

/** Replaces the fields that a template names by an item's texts. */
export function fillTemplate(template: string, { input, output, target }: GradedItem): string {
  const values: Record<TemplateField, string> = {
    'sample.output_text': output,
    'item.input': input,
    'item.target': target ?? '',
  }
  return template.replace(TEMPLATE_PATTERN, (_, name: string) => values[name as TemplateField])
}

/** Whether a grader's templates name the example's target. */
export const needsTarget = (grader: TextGrader): boolean =>
  ['input' in grader ? grader.input : '', 'reference' in grader ? grader.reference : ''].some(
    (template) =>
      [...template.matchAll(TEMPLATE_PATTERN)].some(([, name]) => name === 'item.target'),
  )
