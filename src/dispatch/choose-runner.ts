import { RUNNER_PROTOCOL_VERSION, type RunnerStatus } from '../protocol/runner.ts'

/** What the gateway knows about a runner node at the moment of a choice. */
export type RunnerSnapshot = {
  readonly url: string
  /** Null if the node did not answer. */
  readonly status: RunnerStatus | null
  /** Whether the node's circuit now lets a call of this kind through. */
  readonly isAdmitting: boolean
}

/**
 * Each kind of call has its own circuit, since a node may compute scores and yet fail every answer.
 */
export type CallKind = 'generate' | 'compute' | 'tokenize'

export type RunnerWish = {
  readonly kind: CallKind
  readonly model: string
  /** Null for the base model alone, whatever its digest. */
  readonly modelDigest: string | null
  /** Only jobs set this, because they keep to one build. */
  readonly buildDigest?: string | null
  readonly adapters: readonly string[]
}

export type RunnerChoice =
  | { readonly kind: 'ranked'; readonly runners: readonly RunnerSnapshot[] }
  /** Nodes answer, but none serves the model or the build. */
  | { readonly kind: 'wrong_model' | 'wrong_build' }
  | { readonly kind: 'none' }

/**
 * Ranks the nodes that can serve a request. The node that lacks the fewest of its adapters comes
 * first, then the one with the fewest rows running and requests waiting, then the one configured
 * first.
 */
export function chooseRunner(
  snapshots: readonly RunnerSnapshot[],
  wish: Omit<RunnerWish, 'kind'>,
): RunnerChoice {
  const up = snapshots.filter(
    (s) => s.status?.protocol_version === RUNNER_PROTOCOL_VERSION && s.isAdmitting,
  )
  const ofSlug = up.filter((s) => s.status?.model.slug === wish.model)
  if (ofSlug.length === 0) return { kind: 'none' }
  const ofModel = ofSlug.filter(
    (s) => wish.modelDigest === null || s.status?.model.model_digest === wish.modelDigest,
  )
  if (ofModel.length === 0) return { kind: 'wrong_model' }
  const ofBuild = ofModel.filter(
    (s) => wish.buildDigest == null || s.status?.model.build_digest === wish.buildDigest,
  )
  if (ofBuild.length === 0) return { kind: 'wrong_build' }
  const ranked = ofBuild
    .map((snapshot, order) => ({
      snapshot,
      order,
      numMissing: numMissing(snapshot.status, wish.adapters),
      numAhead: (snapshot.status?.load.running ?? 0) + (snapshot.status?.load.waiting ?? 0),
    }))
    .sort((a, b) => a.numMissing - b.numMissing || a.numAhead - b.numAhead || a.order - b.order)
  return { kind: 'ranked', runners: ranked.map(({ snapshot }) => snapshot) }
}

function numMissing(status: RunnerStatus | null, adapters: readonly string[]): number {
  const resident = new Set(status?.resident_adapters)
  return adapters.filter((digest) => !resident.has(digest)).length
}
