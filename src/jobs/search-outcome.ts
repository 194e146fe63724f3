import { identityRotation, type Rotation } from '../../adapters/rotation/rotation.ts'
import type { PinnedModel } from './job-spec.ts'
import { toStored } from './step-context.ts'
import type { SearchResult, StepContext } from './step.ts'

/** What a job's search has come to, as adapter files hold it. */
export type SearchOutcome = {
  /** Null where nothing was measured yet. */
  readonly best: SearchResult | null
  /** The file of the best rotation; of the identity where there is none. */
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly stored: Rotation
  /** For each fold what is found without its examples. */
  readonly outOfFold: readonly Rotation[]
  readonly trialsPerFold: number
}

export function collectOutcome(context: StepContext, pinned: PinnedModel): SearchOutcome {
  const { spec, search, trials } = context
  const best = search.searchResult(context, pinned)
  const found = toStored(spec, pinned, best?.rotation ?? identityRotation(pinned.geometry))
  return {
    best,
    bytes: found.bytes,
    stored: found.rotation,
    outOfFold: search
      .outOfFoldRotations(context, pinned)
      .map((rotation) => toStored(spec, pinned, rotation).rotation),
    trialsPerFold: search.foldSearch?.countTrials(spec) ?? trials.length,
  }
}

/** What every report says of the search and of the model it ran on. */
export const describeSearch = (
  { spec, state, trials }: StepContext,
  pinned: PinnedModel,
  best: SearchResult | null,
) => ({
  job: spec.id,
  optimizer: spec.optimiser,
  n_trials: trials.length,
  ...best?.report,
  seed: spec.seed,
  scope: spec.scope,
  model_digest: pinned.modelDigest,
  build_digest: pinned.buildDigest,
  best_value: best?.value ?? null,
  best_trial: best?.index ?? null,
  seconds: (Date.now() - (state.startedAtMs ?? spec.createdAtMs)) / 1000,
})
