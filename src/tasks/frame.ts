import type { ChatMessage, PromptMessage } from '../protocol/runner.ts'

/** A task's instructions and where they stand in the prompt. */
export type Frame = {
  readonly instructions: string | null
  /** `before`: a system message. `after`: after the last user message's text. */
  readonly position: 'before' | 'after'
}

export type Framed<T> = {
  readonly messages: readonly (T | PromptMessage)[]
  /** Whether the caller's own system message replaced the task's instructions. */
  readonly replaced: boolean
}

/**
 * Puts a task's frame around a conversation. Training examples and requests both go through this
 * function, so that requests look like the examples.
 */
export function applyFrame<T extends ChatMessage>(frame: Frame, messages: readonly T[]): Framed<T> {
  if (frame.instructions === null) return { messages, replaced: false }
  if (messages.some((message) => message.role === 'system')) return { messages, replaced: true }
  if (frame.position === 'before') {
    const system: PromptMessage = { role: 'system', content: frame.instructions }
    return { messages: [system, ...messages], replaced: false }
  }
  const last = messages.findLastIndex((message) => message.role === 'user')
  if (last < 0) {
    const user: PromptMessage = { role: 'user', content: frame.instructions }
    return { messages: [...messages, user], replaced: false }
  }
  const framed = messages.map((message, i) =>
    i === last ? { ...message, content: `${message.content}\n\n${frame.instructions}` } : message,
  )
  return { messages: framed, replaced: false }
}
