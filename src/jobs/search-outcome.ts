import { identityRotation, type Rotation } from '../../adapters/rotation/rotation.ts'
import type { PinnedModel } from './job-spec.ts'
import { toStored } from './step-context.ts'
import type { SearchResult, StepContext } from './step.ts'

/** What a job's search has found, rounded to what adapter files hold. */
export type SearchOutcome = {
  /** Null if nothing has been measured yet. */
  readonly best: SearchResult | null
  /** The adapter file of the best rotation; of the identity if there is none. */
  readonly bytes: Uint8Array<ArrayBuffer>
  /** The rotation that `bytes` holds. */
  readonly stored: Rotation
  /** For each fold, the rotation that was found without its examples. */
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

/** The part that all reports share: the search, and the model on which it ran. */
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
