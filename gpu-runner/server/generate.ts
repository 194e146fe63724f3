import type { ServerResponse } from 'node:http'
import type { GenerateEvent, GenerateRequest } from '../../src/protocol/runner.ts'
import { admit } from '../admission/admit.ts'
import { isGeneric, openGrammar } from '../admission/open-grammar.ts'
import type { OpenGrammar } from '../grammar/grammar-store.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { Runner } from '../runner.ts'
import type { EngineRequest } from '../scheduler/request.ts'

/** Streams a request's events, one on each line. If the caller leaves, the request is aborted. */
export async function generate(
  runner: Runner,
  wire: GenerateRequest,
  response: ServerResponse,
): Promise<void> {
  const { engine, grammars, context } = runner
  engine.checkCapacity(wire.arms.length, wire.service_tier, wire.tenant)
  const { tokenizer } = context
  const grammar = await openGrammar({ grammars, tokenizer }, wire)
  if (response.destroyed) {
    grammar?.close()
    return
  }
  const emit = createEventWriter(response)
  const request = admitOrSayWhen(runner, wire, emit, grammar)
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  response.on('close', () => {
    if (!response.writableEnded) engine.abort(request)
  })
  const form = isGeneric(tokenizer, wire) ? ({ tool_form: 'generic' } as const) : {}
  const hints = grammar?.hints ?? []
  for (const { sequences } of request.groups) {
    for (const { arm, describeApplied } of sequences) {
      emit({
        event: 'accepted',
        arm,
        applied: describeApplied(),
        prompt_tokens: request.promptIds.length,
        ...form,
        ...(hints.length === 0 ? {} : { schema_hints: [...hints] }),
      })
    }
  }
  engine.submit(request)
}

/** As {@link admit}, but a fault for want of room says when to try again. */
function admitOrSayWhen(
  { context, engine }: Runner,
  wire: GenerateRequest,
  emit: (event: GenerateEvent) => void,
  grammar: OpenGrammar | null,
): EngineRequest {
  try {
    return admit(context, wire, emit, grammar)
  } catch (error) {
    if (!(error instanceof RunnerFault) || error.code !== 'over_capacity') throw error
    throw new RunnerFault(error.code, error.message, {
      ...error.details,
      retry_after_seconds: engine.retryAfterSeconds(),
    })
  }
}

/**
 * Writes events once this turn of the event loop is over: by then the engine has begun its next step,
 * so a step does not wait for the writing.
 */
function createEventWriter(response: ServerResponse): (event: GenerateEvent) => void {
  let pending: GenerateEvent[] = []
  const flush = (): void => {
    const events = pending
    pending = []
    response.write(events.map((event) => `${JSON.stringify(event)}\n`).join(''))
    const last = events[events.length - 1]!
    if (last.event === 'done' || (last.event === 'error' && last.arm === null)) response.end()
  }
  return (event) => {
    if (pending.push(event) === 1) setImmediate(flush)
  }
}
