import type { Applied, GenerateEvent, ServiceTier } from '../../src/protocol/runner.ts'
import type { Decoding } from '../decoding/decoding.ts'
import type { PromptEcho } from '../decoding/prompt-echo.ts'

/** One arm of a request: a row of the decode batch once its prompt is computed. */
export type Sequence = {
  readonly request: EngineRequest
  readonly arm: number
  readonly slot: number
  readonly decoding: Decoding
  /** What was applied, read from the slot that the row uses. */
  readonly describeApplied: () => Applied
  /** Tokens in the row's KV. */
  numComputedTokens: number
  /** Of those, tokens of the prompt that came from the prefix cache. */
  numCachedTokens: number
  firstTokenAtMs: number | null
  lastTokenAtMs: number | null
}

/** Sequences whose prompts are computed alike: all `generated` arms, or one `all` arm. */
export type PrefillGroup = {
  readonly slot: number
  /** First prompt position that `slot` turns; those before it are the base model's. */
  readonly rotateFrom: number
  /** Names chunks' KV in the prefix cache, from the first to the last that is shared. */
  readonly prefixKeys: readonly string[]
  /** Null where the prompt is not given back. */
  readonly echo: PromptEcho | null
  readonly sequences: readonly Sequence[]
}

/** A prompt that is to be computed, a chunk at a time. */
export type Prefill = {
  readonly request: EngineRequest
  readonly group: PrefillGroup
  readonly chunks: readonly (readonly [number, number])[]
  /** Chunks computed; null until the prefix cache has been asked. */
  numDone: number | null
  numCachedTokens: number
}

/** One admitted request. */
export type EngineRequest = {
  readonly id: string
  readonly tier: ServiceTier
  readonly promptIds: readonly number[]
  readonly groups: readonly PrefillGroup[]
  readonly emit: (event: GenerateEvent) => void
  /** Ends leases; called once, when the last sequence is done. */
  readonly release: () => void
  readonly admittedAtMs: number
  /** Past it the request is given up, wherever it stands. */
  readonly deadlineAtMs: number
  aborted: boolean
  numUnfinished: number
  numPrefills: number
}
