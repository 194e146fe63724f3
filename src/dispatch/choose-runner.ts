import { RUNNER_PROTOCOL_VERSION, type RunnerStatus } from '../protocol/runner.ts'
import { rendezvousRanks } from './rendezvous.ts'

/*
 * Costs, in batches: a runner whose rows are all taken, with none waiting, costs 1. Each bounds what its
 * reason may outweigh: residency sends a request to a runner with half a batch more to do, no further.
 */
const ALL_MISSING_COST = 0.5
const AWAY_COST = 0.2
const OTHER_PREFIX_COST = 0.2
const FAILED_COST = 0.25
/** Among two runners whose costs differ by less, the choice is by chance. */
const NEAR_COST = 0.2
/** The places of a key's order that cost less than all others. An adapter is first put on one of them. */
const NUM_HOMES = 2

/** What the gateway knows about a runner node at the moment of a choice. */
export type RunnerSnapshot = {
  readonly url: string
  /** Null if the node did not answer. */
  readonly status: RunnerStatus | null
  /** Whether the node's circuit now lets a call of this kind through. */
  readonly isAdmitting: boolean
  /** Whether its last call of this kind failed. */
  readonly hasFailed?: boolean
  /** Calls that this isolate has begun on the node since it asked for the status. */
  readonly numBegun?: number
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
  /**
   * Names what the prompt begins with; only generations set it. Calls without it, such as jobs' that
   * keep data on a runner, are not spread by chance.
   */
  readonly prefix?: string
}

export type RunnerChoice =
  | { readonly kind: 'ranked'; readonly runners: readonly RunnerSnapshot[] }
  /** Nodes answer, but none serves the model or the build. */
  | { readonly kind: 'wrong_model' | 'wrong_build' }
  | { readonly kind: 'none' }

/**
 * Ranks the nodes that can serve a request by what it would cost there: the node's load, adapters it
 * lacks, a prompt's beginning that it has probably not computed, a call that failed. One of the best
 * two comes first, by chance if they cost about the same, so that isolates with the same snapshot do
 * not all choose alike.
 * @param random uniform on [0, 1)
 */
export function chooseRunner(
  snapshots: readonly RunnerSnapshot[],
  wish: Omit<RunnerWish, 'kind'>,
  random: () => number,
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
  const costs = costsOf(ofBuild, wish)
  const ranked = ofBuild
    .map((snapshot, order) => ({ snapshot, order, cost: costs[order]! }))
    .sort((a, b) => a.cost - b.cost || a.order - b.order)
  const [best, second] = ranked
  if (wish.prefix !== undefined && best !== undefined && second !== undefined) {
    // Equal costs: even odds. The odds of the second fall to 0 where the costs are no longer near.
    const odds = 0.5 * (1 - (second.cost - best.cost) / NEAR_COST)
    if (random() < odds) ranked.splice(0, 2, second, best)
  }
  return { kind: 'ranked', runners: ranked.map(({ snapshot }) => snapshot) }
}

function costsOf(
  snapshots: readonly RunnerSnapshot[],
  { adapters, prefix }: Omit<RunnerWish, 'kind'>,
): number[] {
  const urls = snapshots.map(({ url }) => url)
  const distances = (key: string): number[] =>
    rendezvousRanks(key, urls).map((rank) => Math.min(rank / NUM_HOMES, 1))
  const away = adapters.length === 0 ? null : distances(adapters.join())
  const offPrefix = prefix === undefined ? null : distances(prefix)
  return snapshots.map(({ status, numBegun = 0, hasFailed = false }, i) => {
    if (status === null) return Infinity
    const { running, waiting, parked } = status.load
    const load = (running + waiting + parked + numBegun) / status.limits.max_rows
    const resident = new Set(status.resident_adapters)
    const missing = adapters.filter((digest) => !resident.has(digest)).length
    const missingShare = adapters.length === 0 ? 0 : missing / adapters.length
    return (
      load +
      missingShare * (ALL_MISSING_COST + AWAY_COST * (away?.[i] ?? 0)) +
      OTHER_PREFIX_COST * (offPrefix?.[i] ?? 0) +
      (hasFailed ? FAILED_COST : 0)
    )
  })
}
