import { identityRotation, type Rotation } from '../../adapters/rotation/rotation.ts'
import { foldsAdvanced } from './auto-steps.ts'
import { foldRotations } from './gradient-steps.ts'
import { countFoldTrials, countGuardFolds, guardFolds } from './guard-folds.ts'
import type { FoldTrial, JobSpec, PinnedModel } from './job-spec.ts'
import { measureRotations, valueOf } from './objective.ts'
import { isInRounds } from '../protocol/openai/optimisers.ts'
import { optimiserOf } from './optimiser-of.ts'
import { foldsInRounds } from './rewards/round-steps.ts'
import { message, toStored, type StepContext, type Transition } from './step-context.ts'

/** Candidates of one fold scored between two writes. */
const MAX_FOLD_ROUND = 4

export const describeGuard = (spec: JobSpec): string =>
  `The search is done. Judging what it is worth by ${countGuardFolds(spec)} searches of ` +
  `${countFoldTrials(spec)} trials, each on examples that leave a fold out.`

/**
 * One round of all folds' searches, scored together. Each is the job's own search on the examples of
 * the other folds; its fold's examples are scored in the same call, and not looked at.
 */
export async function searchFolds(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec } = context
  const folds = guardFolds(spec)
  const asked = Array.from({ length: countGuardFolds(spec) }, (_, fold) => {
    const optimiser = optimiserOf(context, pinned, fold)
    const told = trialsOf(context, fold)
    return optimiser
      .ask(told)
      .slice(0, MAX_FOLD_ROUND)
      .map((z, i) => ({ fold, index: told.length + i, z, rotation: optimiser.toRotation(z) }))
  }).flat()
  if (asked.length === 0) {
    return {
      state: { phase: 'reporting' },
      events: [message('Measuring what the job and its folds have found.')],
    }
  }
  const rotations = asked.map(({ rotation }) => toStored(spec, pinned, rotation).rotation)
  const scores = await measureRotations(context, pinned, spec.training, rotations)
  const foldTrials = asked.map(({ fold, index, z }, candidate): FoldTrial => {
    const isSeen = (example: number) => folds[example] !== fold
    return { fold, index, z, value: valueOf(spec, pinned, scores[candidate]!, isSeen) }
  })
  return { state: {}, foldTrials }
}

/** What the search gives without each fold's examples, as the adapter's file would hold it. */
export function foldsFound(context: StepContext, pinned: PinnedModel): Rotation[] {
  const { spec } = context
  if (spec.optimiser === 'gradient') {
    return foldRotations(context, pinned).map((own) => toStored(spec, pinned, own).rotation)
  }
  if (isInRounds(spec.optimiser)) {
    return foldsInRounds(context, pinned).map((own) => toStored(spec, pinned, own).rotation)
  }
  if (spec.optimiser === 'auto') {
    return foldsAdvanced(context, pinned).map((own) => toStored(spec, pinned, own).rotation)
  }
  return Array.from({ length: countGuardFolds(spec) }, (_, fold) => {
    const optimiser = optimiserOf(context, pinned, fold)
    const best = optimiser.best(trialsOf(context, fold))
    if (best === null) return identityRotation(pinned.geometry)
    return toStored(spec, pinned, optimiser.toRotation(best.z)).rotation
  })
}

const trialsOf = ({ foldTrials }: StepContext, fold: number): FoldTrial[] =>
  foldTrials.filter((trial) => trial.fold === fold)
