import type { Objective } from '../../protocol/openai/objective.ts'
import type { ObjectiveKind } from '../step.ts'
import { LABEL } from './label.ts'
import { PREFERENCE } from './preference.ts'
import { REWARD } from './reward.ts'
import { TARGET } from './target.ts'

/** All objectives, by name. */
const OBJECTIVES: Readonly<Record<Objective, ObjectiveKind>> = {
  label: LABEL,
  target: TARGET,
  preference: PREFERENCE,
  reward: REWARD,
}

export const objectiveOf = ({ objective }: { readonly objective: Objective }): ObjectiveKind =>
  OBJECTIVES[objective]
