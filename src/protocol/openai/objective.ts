/** The fields of a method that say what a job learns. */
import { z } from 'zod'
import { generationSchema, graderSchema, isTextGrader } from './graders.ts'

const MAX_BETA = 10
const OBJECTIVES = ['label', 'target', 'preference'] as const
/** A job learns labels, target texts, which of two texts is preferred, or what a grader likes. */
export type Objective = (typeof OBJECTIVES)[number] | 'reward'

export const objectiveFields = {
  /** If left out, the files' lines decide. */
  objective: z.enum(OBJECTIVES).nullish(),
  /** How much a pair's margin over the base model counts. Only jobs that fit pairs have it. */
  beta: z.number().gt(0).max(MAX_BETA).nullish(),
  /** Scores the examples. If left out, the probability of their labels or targets does. */
  grader: graderSchema.nullish(),
  /** How the model draws the texts that a grader scores. */
  generation: generationSchema.nullish(),
}
type ObjectiveFields = z.output<z.ZodObject<typeof objectiveFields>>

/** Adds an issue where fields do not go together with what the method says is learnt. */
export function checkObjective(
  fields: ObjectiveFields & {
    readonly labels?: unknown
    readonly min_confidence?: unknown
    readonly fallback_label?: unknown
  },
  context: z.RefinementCtx,
): void {
  const { objective, grader, generation } = fields
  const add = (field: string, message: string): void => {
    context.addIssue({ code: 'custom', path: [field], message })
  }
  const isText = isTextGrader(grader)
  if (objective != null && grader != null && objective !== grader.type) {
    add('grader', `is "${grader.type}", and the objective is "${objective}"`)
  }
  if (generation != null && !isText) add('generation', 'needs a grader of generated texts')
  const learnt = isText ? grader.type : (objective ?? grader?.type)
  if (learnt === undefined || learnt === 'label') return
  for (const name of ['labels', 'min_confidence', 'fallback_label'] as const) {
    if (fields[name] == null) continue
    add(name, `applies only to labels; this job learns by "${learnt}"`)
  }
}

/** The objective that a method names; null leaves it to the files' lines. */
export function givenObjective({ objective, grader }: ObjectiveFields): Objective | null {
  if (isTextGrader(grader)) return 'reward'
  return objective ?? grader?.type ?? null
}
