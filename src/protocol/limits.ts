/** What a project or one of its keys may use. A name that is absent has no limit. */
export type Limits = Partial<Readonly<Record<LimitName, number>>>

export type LimitName =
  | 'requestsPerMinute'
  | 'tokensPerMinute'
  | 'concurrentRequests'
  | 'storedBytes'
  | 'runningJobs'
  /** A month of UTC. */
  | 'tokensPerMonth'

/** A request is held to the limits of its project and to those of its key. */
export type CallerLimits = { readonly project: Limits; readonly key: Limits }
export type LimitOwner = keyof CallerLimits

/** Limits that every request to a model is held to. The others belong to files and jobs. */
const OF_REQUESTS: readonly LimitName[] = [
  'requestsPerMinute',
  'tokensPerMinute',
  'concurrentRequests',
  'tokensPerMonth',
]

export const limitsRequests = ({ project, key }: CallerLimits): boolean =>
  OF_REQUESTS.some((name) => project[name] !== undefined || key[name] !== undefined)

/** Why something is refused. */
export type Refusal = {
  readonly limit: LimitName
  readonly owner: LimitOwner
  readonly max: number
  readonly used: number
  readonly requested: number
  /** When it would fit; null if it never does. */
  readonly retryAfterMs: number | null
}
