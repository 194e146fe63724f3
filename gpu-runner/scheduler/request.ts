import type { Applied, GenerateEvent, ServiceTier } from '../../src/protocol/runner.ts'
import type { Decoding } from '../decoding/decoding.ts'
import type { PromptEcho } from '../decoding/prompt-echo.ts'

/** One arm of a request. It gets a row of the decode batch once its prompt is computed. */
export type Sequence = {
  readonly request: EngineRequest
  readonly arm: number
  readonly slot: number
  readonly decoding: Decoding
  /** Says what was applied, as read from the slot that the row uses. */
  readonly describeApplied: () => Applied
  /** Tokens in the row's KV. */
  numComputedTokens: number
  /** How many of those came from the prefix cache. */
  numCachedTokens: number
  firstTokenAtMs: number | null
  lastTokenAtMs: number | null
}

/** Sequences whose prompts are computed alike: all `generated` arms, or one `all` arm. */
export type PrefillGroup = {
  readonly slot: number
  /** First prompt position that `slot` rotates; those before it are computed by the base model. */
  readonly rotateFrom: number
  /** Prefix cache keys of the prompt's chunks, from the first to the last that may be shared. */
  readonly prefixKeys: readonly string[]
  /** Sends the prompt back; null where the request does not ask for that. */
  readonly echo: PromptEcho | null
  readonly sequences: readonly Sequence[]
}

/** A prompt that is being computed, a chunk at a time. */
export type Prefill = {
  readonly request: EngineRequest
  readonly group: PrefillGroup
  readonly chunks: readonly (readonly [number, number])[]
  /** How many chunks are computed; null until the prefix cache has been asked. */
  numDone: number | null
  numCachedTokens: number
}

/** All of a request but its sequences and its progress. */
export type RequestFields = Pick<
  EngineRequest,
  'id' | 'tenant' | 'tier' | 'promptIds' | 'emit' | 'release' | 'admittedAtMs' | 'deadlineAtMs'
>

/** One admitted request. */
export class EngineRequest {
  readonly id: string
  /** Tenants of one tier take turns. Requests that name no tenant are one tenant's, ''. */
  readonly tenant: string
  readonly tier: ServiceTier
  readonly promptIds: readonly number[]
  readonly emit: (event: GenerateEvent) => void
  /** Ends leases; called once, when the last sequence is done. */
  readonly release: () => void
  readonly admittedAtMs: number
  /** Past it the request is dropped, whether it waits or runs. */
  readonly deadlineAtMs: number
  readonly groups: readonly PrefillGroup[]
  aborted = false
  numUnfinished: number
  numPrefills = 0

  /** @param createGroups makes the sequences, which refer to the request that is being made */
  constructor(
    fields: RequestFields,
    createGroups: (request: EngineRequest) => readonly PrefillGroup[],
  ) {
    this.id = fields.id
    this.tenant = fields.tenant
    this.tier = fields.tier
    this.promptIds = fields.promptIds
    this.emit = fields.emit
    this.release = fields.release
    this.admittedAtMs = fields.admittedAtMs
    this.deadlineAtMs = fields.deadlineAtMs
    this.groups = createGroups(this)
    this.numUnfinished = this.groups.reduce((sum, { sequences }) => sum + sequences.length, 0)
  }
}
