import {
  FURTHER_PARTITIONS,
  MAX_REPEATED_INPUTS,
  type PartitionPredictions,
} from '../../adapters/guard/repeats.ts'
import { predictOutOfFold } from '../../adapters/guard/out-of-fold.ts'
import { leavesDoubt, type Verdict } from '../../adapters/guard/verdict.ts'
import { GradientSearch } from '../../adapters/optimise/gradient/gradient.ts'
import { decodeGradientState, encodeGradientState } from '../../adapters/optimise/gradient/state.ts'
import { identityRotation } from '../../adapters/rotation/rotation.ts'
import { differentiate } from './differentiate.ts'
import type { PinnedModel } from './job-spec.ts'
import { scoreOnRunner } from './scores.ts'
import { readSearchState } from './searches/search-state.ts'
import { evaluationOf, message, toStored, withRunner } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'

/**
 * Whether the examples are divided again before a job on labels is judged. Fits by gradient take
 * seconds; the other searches would take minutes. Nothing hangs on the verdict where the adapter goes
 * live anyway, or of a version on the way.
 */
export function wantsRepeats({ spec, state, search }: StepContext, verdict: Verdict): boolean {
  return (
    leavesDoubt(verdict) &&
    verdict.numExamples <= MAX_REPEATED_INPUTS &&
    search.datasetUse === 'gradient' &&
    spec.guard === 'enforce' &&
    !spec.force &&
    state.phase !== 'checkpointing'
  )
}

/** Leaves the report for the phase "guarding", which fits the examples in further partitions. */
export const startRepeats = ({ adapter }: Verdict): Transition => ({
  state: { phase: 'guarding', repeats: [] },
  events: [
    message(
      `The folds leave a doubt (p = ${adapter.pValue.toFixed(3)}). Dividing the examples into other ` +
        'folds to settle it.',
    ),
  ],
})

/**
 * Takes one step of a further partition: ask, differentiate, tell. After its last one the partition's
 * predictions are kept; after the last partition the job is reported. A crash repeats at most one call.
 */
export async function stepRepeats(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, repeatState, state } = context
  const done = state.repeats ?? []
  const partition = FURTHER_PARTITIONS[done.length]
  if (partition === undefined) return { state: { phase: 'reporting' } }
  const { training, groups } = spec
  const search = new GradientSearch({
    geometry: pinned.geometry,
    gold: training.gold,
    groups,
    seed: spec.seed + partition.seedOffset,
    options: { numFolds: partition.numFolds },
  })
  const before = readSearchState(search, repeatState, decodeGradientState)
  const query = search.ask(before)
  if (query !== null) {
    const answer = await withRunner(context, ({ client }) =>
      differentiate(evaluationOf(context, pinned, client, training), query),
    )
    return { state: {}, repeat: encodeGradientState(search.tell(before, answer)) }
  }
  const rotations = search
    .foldRotations(before)
    .map((rotation) => toStored(spec, pinned, rotation).rotation)
  const [base, ...candidates] = (await scoreOnRunner(context, pinned, training, [
    identityRotation(pinned.geometry),
    ...rotations,
  ])) as [number[][], ...number[][][]]
  const { folds } = search
  const { adapter } = predictOutOfFold({ gold: training.gold, folds, base, candidates })
  const repeats: readonly PartitionPredictions[] = [...done, { folds, predictions: adapter }]
  const isLast = repeats.length === FURTHER_PARTITIONS.length
  return { state: { repeats, ...(isLast ? { phase: 'reporting' } : {}) }, repeat: null }
}
