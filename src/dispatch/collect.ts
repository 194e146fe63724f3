import type { LabelProbability, PositionLogprob, PromptToken } from '../protocol/runner.ts'
import type { Generation } from './generate.ts'
import { toApiError } from './runner-error.ts'
import type { EndEvent } from './count-usage.ts'

/** The whole answer of one arm. */
export type Answer = {
  /** The prompt; empty unless the request asks for it. */
  readonly promptText: string
  readonly promptTokens: readonly PromptToken[]
  readonly text: string
  /** One for each token; empty unless the request asks for them. */
  readonly logprobs: readonly PositionLogprob[]
  readonly labels: readonly LabelProbability[] | undefined
  readonly end: EndEvent
}

class AnswerRecord {
  promptText = ''
  readonly promptTokens: PromptToken[] = []
  text = ''
  readonly logprobs: PositionLogprob[] = []
  labels: readonly LabelProbability[] | undefined
  end: EndEvent | null = null
}

/**
 * Collects the answers of a generation, one for each arm.
 * @throws {ApiError}
 */
export async function collectAnswers(generation: Generation): Promise<readonly Answer[]> {
  const records: AnswerRecord[] = []
  try {
    for await (const event of generation.events) {
      if (event.event === 'done' || event.event === 'error') continue
      const record = (records[event.arm] ??= new AnswerRecord())
      switch (event.event) {
        case 'prompt':
          record.promptText += event.text
          record.promptTokens.push(...event.tokens)
          break
        case 'token':
          record.text += event.text
          record.logprobs.push(...(event.logprobs ?? []))
          break
        case 'labels':
          record.labels = event.labels
          break
        case 'end':
          record.end = event
          break
        // Functions are called by chats alone, which `collectChat` reads.
        case 'tool_call':
        case 'accepted':
          break
      }
    }
  } catch (error) {
    throw toApiError(error)
  }
  // The generator throws unless every arm has ended.
  return records.map(({ end, ...rest }) => ({ ...rest, end: end! }))
}
