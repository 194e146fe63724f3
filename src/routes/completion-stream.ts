import type { CompletionRun } from '../answers/completion.ts'
import type { Generation } from '../dispatch/generate.ts'
import { sumUsage, usageOf, type EndEvent } from '../dispatch/count-usage.ts'
import { sseStream } from '../http/sse-stream.ts'
import type { FinishReason, Usage } from '../protocol/openai/chat-completions.ts'
import {
  LogprobsWriter,
  type Completion,
  type CompletionLogprobs,
} from '../protocol/openai/completions.ts'
import type { PromptToken } from '../protocol/runner.ts'
import { proofOf } from '../tasks/answer-proof.ts'

/**
 * Streams the answers to all prompts as they come; their `index` tells them apart. An echoed prompt
 * comes before its answer. Each choice's last chunk has the proof, and is sent when all answers to
 * its prompt are complete.
 */
export function completionStream(run: CompletionRun): ReadableStream<Uint8Array> {
  const { head, request, caller, eachPrompt, recordUsage, during } = run
  return sseStream(caller, (write) =>
    during(async () => {
      const usages = await eachPrompt((generation, prompt) =>
        pumpPrompt(run, generation, prompt, write),
      )
      const usage = sumUsage(usages)
      if (request.includeUsage) write({ ...head, object: 'text_completion', choices: [], usage })
      recordUsage(usage)
    }),
  )
}

async function pumpPrompt(
  { head, selection, request: { n, includeUsage, shaping } }: CompletionRun,
  generation: Generation,
  prompt: number,
  write: (chunk: Completion) => void,
): Promise<Usage> {
  const hasLogprobs = shaping.logprobs !== undefined
  const writers = Array.from({ length: n }, () => new LogprobsWriter())
  const ends: EndEvent[] = []
  const send = (
    arm: number,
    text: string,
    logprobs: CompletionLogprobs | null,
    end: { readonly reason: FinishReason; readonly event: EndEvent } | null = null,
  ) => {
    write({
      ...head,
      object: 'text_completion',
      choices: [{ text, index: prompt * n + arm, logprobs, finish_reason: end?.reason ?? null }],
      ...(includeUsage ? { usage: null } : {}),
      ...(end === null
        ? {}
        : { arcana: proofOf(selection, end.event.applied, generation.runnerId) }),
    })
  }
  const logprobsOf = (arm: number, positions: readonly PromptToken[] = [], isShown = true) =>
    hasLogprobs && positions.length > 0 ? writers[arm]!.write(positions, isShown) : null
  for await (const event of generation.events) {
    if (event.event === 'prompt' || event.event === 'token') {
      const { arm, text } = event
      const logprobs = logprobsOf(arm, event.event === 'prompt' ? event.tokens : event.logprobs)
      if (text !== '' || logprobs !== null) send(arm, text, logprobs)
    } else if (event.event === 'end') ends[event.arm] = event
  }
  for (const [arm, event] of ends.entries()) {
    const logprobs = logprobsOf(arm, event.stop_token && [event.stop_token], false)
    send(arm, '', logprobs, { reason: event.finish_reason, event })
  }
  return usageOf(ends)
}
