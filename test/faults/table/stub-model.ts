/** What the stub runner says when nothing is wrong with it. */
import {
  RUNNER_PROTOCOL_VERSION,
  type Applied,
  type GenerateEvent,
  type RunnerStatus,
} from '../../../src/protocol/runner.ts'
import { BASE_MODEL } from '../../fixtures/api.ts'

export const PROMPT_TOKENS = 12
export const COMPLETION_TOKENS = 8
/** A prompt has this with a number; the answer repeats it, so that answers cannot be swapped unseen. */
const MARK = /mark-\d+/

export const APPLIED: Applied = {
  adapters: [],
  scope: 'generated',
  rotate_from: null,
  layers: [],
  model_digest: 'a'.repeat(64),
  build_digest: 'b'.repeat(64),
  bias_digest: null,
}

export const STATUS: RunnerStatus = {
  protocol_version: RUNNER_PROTOCOL_VERSION,
  runner_id: 'stub',
  model: {
    slug: BASE_MODEL,
    model_digest: APPLIED.model_digest,
    build_digest: APPLIED.build_digest,
    num_layers: 30,
    num_heads: 9,
    num_kv_heads: 3,
    head_dim: 64,
    hidden_size: 576,
    vocab_size: 49152,
    max_context: 2048,
  },
  ort_backend: 'c-api',
  limits: {
    max_rows: 1024,
    max_waiting: 1024,
    max_adapter_bytes: 1 << 20,
    max_resident_adapters: 64,
    max_prefix_cache_bytes: 0,
  },
  prefix_cache: { bytes: 0, blocks: 0 },
  load: { running: 0, waiting: 0, parked: 0 },
  job_share: { limit: 0.3, measured: 0 },
  resident_adapters: [],
}

/** The answer to a text that has a mark. */
export function wordsFor(text: string): string[] {
  const mark = MARK.exec(text)?.[0] ?? 'no mark'
  return Array.from({ length: COMPLETION_TOKENS }, (_, i) => (i === 0 ? mark : ` word${i}`))
}

export const accepted = (applied: Applied = APPLIED): GenerateEvent => ({
  event: 'accepted',
  arm: 0,
  applied,
  prompt_tokens: PROMPT_TOKENS,
})

export const tokens = (words: readonly string[]): GenerateEvent[] =>
  words.map((text, id) => ({ event: 'token', arm: 0, text, ids: [id] }))

export const end = (
  numTokens = COMPLETION_TOKENS,
  applied: Applied = APPLIED,
): Extract<GenerateEvent, { event: 'end' }> => ({
  event: 'end',
  arm: 0,
  finish_reason: 'length',
  usage: { prompt_tokens: PROMPT_TOKENS, completion_tokens: numTokens, cached_tokens: 0 },
  applied,
  first_token_ms: 1,
  total_ms: 2,
})

export const DONE: GenerateEvent = { event: 'done', num_prefills: 1 }
export const lineOf = (event: unknown): string => `${JSON.stringify(event)}\n`
