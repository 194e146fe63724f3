/** What isolates and the object of their project's limits say to each other. */
import type { CallerLimits, Refusal } from '../protocol/limits.ts'
import type { UsageMinute } from '../db/usage.ts'
import type { UsageEntry } from './usage-store.ts'

/** Allowances of which a lease has some in advance. */
export type Allowance = { readonly requests: number; readonly tokens: number }

/** What a request turned out to use, once it has ended. */
export type Settlement = {
  /** Rises by one with each settlement of a lease, so that one that is sent twice counts once. */
  readonly seq: number
  /** Tokens that it used beyond those it reserved; negative if it used fewer. */
  readonly tokens: number
  /** How long ago it was admitted. */
  readonly admittedAgoMs: number
}

/**
 * A lease's report, and what its isolate needs. An isolate has one lease for each key, and makes one
 * call for it at a time.
 */
export type LeaseCall = {
  /** Names the isolate and the key together. */
  readonly lease: string
  readonly keyId: string
  /** As this isolate read them; at most seconds old. */
  readonly limits: CallerLimits
  /** What the isolate has left of what it was given in advance, and keeps. */
  readonly unused: Allowance
  /** What it gives back. */
  readonly returned: Allowance
  /** Requests that run. */
  readonly running: number
  /** How many may run: those, and places that it keeps for the next. */
  readonly held: number
  readonly settled: readonly Settlement[]
  /** Requests that wait to be admitted, in order, each with the tokens that it reserves. */
  readonly wants: readonly { readonly tokens: number }[]
}

/** Where a limit a minute stands: the project's or the key's, whichever has less left. */
export type Standing = {
  readonly limit: number
  readonly remaining: number
  /** Until all of it is there again. */
  readonly resetMs: number
}

export type Standings = { readonly requests?: Standing; readonly tokens?: Standing }

export type LeaseReply = {
  /** Of each want: null if it is admitted. */
  readonly outcomes: readonly (Refusal | null)[]
  /** Given in advance, beyond what the wants use. */
  readonly granted: Allowance
  /** Further requests that may run at once, those of admitted wants among them. */
  readonly places: number
  /** How many places the isolate may keep for its next requests. It gives back the others. */
  readonly idle: number
  readonly standings: Standings
}

/** What a Worker asks of the object of a project's limits. */
export interface LimitCalls {
  exchange: (call: LeaseCall) => Promise<LeaseReply>
  /** Ends when the entry is stored. */
  addUsage: (projectId: string, entry: UsageEntry) => Promise<void>
  /** What is not rolled up yet, and perhaps what has just been. */
  openUsage: () => Promise<UsageMinute[]>
}
