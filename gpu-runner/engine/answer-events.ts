import type { GenerateEvent } from '../../src/protocol/runner.ts'
import type { Sequence } from '../scheduler/request.ts'
import type { DecodingOutput } from '../decoding/decoding.ts'

/** What a caller is told about a row. Faults are not among it: they end the whole request. */
export type AnswerOutput = Exclude<DecodingOutput, { kind: 'fault' }>

/** A row's output as an event of the protocol. */
export function toWire(sequence: Sequence, output: AnswerOutput, nowMs: number): GenerateEvent {
  const { request, arm } = sequence
  switch (output.kind) {
    case 'token':
      return {
        event: 'token',
        arm,
        text: output.text,
        ids: [...output.ids],
        ...(output.logprobs ? { logprobs: [...output.logprobs] } : {}),
      }
    case 'tool_call':
      return {
        event: 'tool_call',
        arm,
        index: output.index,
        ...(output.name === undefined ? {} : { name: output.name }),
        arguments: output.arguments,
      }
    case 'labels':
      return { event: 'labels', arm, labels: [...output.labels] }
    case 'finish':
      return {
        event: 'end',
        arm,
        finish_reason: output.reason,
        usage: {
          prompt_tokens: request.promptIds.length,
          completion_tokens: output.completionTokens,
          cached_tokens: sequence.numCachedTokens,
        },
        ...(output.stopToken ? { stop_token: output.stopToken } : {}),
        applied: sequence.describeApplied(),
        first_token_ms: (sequence.firstTokenAtMs ?? nowMs) - request.admittedAtMs,
        total_ms: nowMs - request.admittedAtMs,
      }
  }
}
