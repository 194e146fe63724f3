import { IDENTITY_SLOT } from '../adapters/slot-table.ts'
import { PromptEcho } from '../decoding/prompt-echo.ts'
import { prefixKeys } from '../kv-cache/prefix-keys.ts'
import { prefillChunks } from '../scheduler/chunks.ts'
import type { PrefillGroup, Sequence } from '../scheduler/request.ts'
import type { GenerateRequest } from '../../src/protocol/runner.ts'
import type { AdmissionContext } from './context.ts'

/**
 * Groups sequences whose prompts are computed alike. Arms of scope `generated`, and base arms
 * whatever their scope, share the base model's prefill; arms that rotate the prompt alike share a
 * rotated one.
 *
 * A tenant's equal prefixes share their KV: the base model's under any adapter, those of scope `all`
 * under the same ordered list of adapters and weights. KV from a named position on is not shared.
 */
export function groupByPrefill(
  context: AdmissionContext,
  wire: GenerateRequest,
  promptIds: readonly number[],
  sequences: readonly Sequence[],
): PrefillGroup[] {
  const { tenant } = wire
  const { slots, buildDigest, tokenizer } = context
  // The last prompt token is computed in the decode row, which its slot rotates in any case.
  const promptEnd = promptIds.length - 1
  const rotateFrom = ({ arm, slot }: Sequence): number => {
    const { scope, rotate_from: from = promptEnd } = wire.arms[arm]!
    if (slot === IDENTITY_SLOT) return promptEnd
    return scope === 'all' ? 0 : Math.min(from, promptEnd)
  }
  const groups = Map.groupBy(sequences, (sequence) => {
    const from = rotateFrom(sequence)
    return from === promptEnd
      ? 'base'
      : `${wire.arms[sequence.arm]!.scope}:${sequence.slot}:${from}`
  })
  const chunks = prefillChunks(promptEnd)
  return [...groups.values()].map((members) => {
    const first = members[0]!
    const from = rotateFrom(first)
    const isAll = from < promptEnd && wire.arms[first.arm]!.scope === 'all'
    const shared = isAll ? chunks : chunks.filter(([, end]) => end <= from)
    const rotation = isAll ? slots.keyOf(first.slot) : ''
    const keys =
      tenant === undefined ? [] : prefixKeys({ tenant, buildDigest, rotation }, promptIds, shared)
    const echo = wire.echo
      ? new PromptEcho(tokenizer, promptIds, wire.sampling.logprobs ?? null)
      : null
    const slot = from === promptEnd ? IDENTITY_SLOT : first.slot
    return { slot, rotateFrom: from, prefixKeys: keys, echo, sequences: members }
  })
}
