import type { GenerateEvent, GenerateRequest } from '../../src/protocol/runner.ts'
import type { OpenGrammar } from '../grammar/grammar-store.ts'
import { needsToolGrammar } from '../grammar/tool-grammar.ts'
import { RunnerFault } from '../runner-fault.ts'
import { EngineRequest, type Sequence } from '../scheduler/request.ts'
import { describeApplied, leaseSlot } from './arm-slot.ts'
import type { AdmissionContext } from './context.ts'
import { createDecoding } from './create-decoding.ts'
import { encodePrompt } from './encode-prompt.ts'
import { checkTools } from './open-grammar.ts'
import { groupByPrefill } from './prefill-groups.ts'

/**
 * Turns a request of the protocol into one the engine can run: encodes the prompt, leases adapters and
 * slots. The request's `release` ends the leases; if this throws, it has ended them itself.
 * @param grammar that {@link openGrammar} opened for this request; closed with the leases
 * @throws {RunnerFault} a request that cannot be served
 */
export function admit(
  context: AdmissionContext,
  wire: GenerateRequest,
  emit: (event: GenerateEvent) => void,
  grammar: OpenGrammar | null = null,
): EngineRequest {
  const leases: (() => void)[] = grammar ? [grammar.close] : []
  const release = (): void => {
    for (const end of leases.splice(0)) end()
  }
  try {
    const needsGrammar =
      wire.response_format !== undefined || (wire.tools && needsToolGrammar(wire.tools))
    if (needsGrammar && !grammar) throw new RunnerFault('internal', 'a grammar was not opened')
    const toolFormat = checkTools(context.tokenizer, wire)
    const promptIds = encodePrompt(context.tokenizer, wire, context.maxContext - 1)
    checkRotateFrom(wire, promptIds.length)
    // All arms at once, so that the caller learns of every missing adapter in one answer.
    context.adapters.requireResident(wire.arms.flatMap(({ adapters }) => adapters))
    const slots = wire.arms.map((arm) => leaseSlot(context, arm, leases))
    const admittedAtMs = context.now()
    const decodings = wire.arms.map((arm, index) =>
      createDecoding(context, {
        wire,
        arm,
        promptIds,
        grammar: grammar?.rows[index] ?? null,
        toolFormat,
      }),
    )
    const fields = {
      id: wire.request_id,
      tenant: wire.tenant ?? '',
      tier: wire.service_tier ?? 'default',
      promptIds,
      emit,
      release,
      admittedAtMs,
      deadlineAtMs: admittedAtMs + (wire.timeout_ms ?? context.requestTimeoutMs),
    }
    return new EngineRequest(fields, (request) => {
      const sequences = wire.arms.map((arm, index): Sequence => {
        const slot = slots[index]!
        return {
          request,
          arm: index,
          slot,
          decoding: decodings[index]!,
          describeApplied: () => describeApplied(context, slot, arm),
          numComputedTokens: 0,
          numCachedTokens: 0,
          firstTokenAtMs: null,
          lastTokenAtMs: null,
        }
      })
      return groupByPrefill(context, wire, promptIds, sequences)
    })
  } catch (error) {
    release()
    throw error
  }
}

/** @throws {RunnerFault} an arm that rotates from a position past the prompt's end */
function checkRotateFrom({ arms }: GenerateRequest, promptLen: number): void {
  const outside = arms.find(({ rotate_from: from }) => from && from >= promptLen)
  if (!outside) return
  throw new RunnerFault(
    'invalid_request',
    `the prompt has ${promptLen} tokens, so it cannot be rotated from ${outside.rotate_from ?? 0}`,
    { param: 'rotate_from' },
  )
}
