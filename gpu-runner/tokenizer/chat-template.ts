import { randomUUID } from 'node:crypto'
import { Template } from '@huggingface/jinja'
import type { PromptMessage } from '../../src/protocol/runner.ts'

/** A stretch of the prompt: written by the template (trusted) or by whoever wrote the message. */
export interface PromptSegment {
  readonly text: string
  readonly trusted: boolean
}

/** The model's own Jinja chat template. */
export class ChatTemplate {
  readonly source: string
  readonly #template: Template
  readonly #variables: Readonly<Record<string, unknown>>

  /** @param variables what the template may name besides the messages: bos_token, eos_token */
  constructor(source: string, variables: Readonly<Record<string, unknown>> = {}) {
    this.source = source
    this.#template = new Template(source)
    this.#variables = variables
  }

  /** The prompt's text, up to and with the opening of the assistant's answer. */
  render(messages: readonly PromptMessage[]): string {
    return this.#template.render({
      ...this.#variables,
      messages: messages.map(({ role, content }) => ({ role, content })),
      add_generation_prompt: true,
    })
  }

  /**
   * The prompt in stretches that join to `render(messages)`, each marked by who wrote it: contents
   * are rendered as random stand-ins, and found again by them.
   * Templates that trim contents, as Gemma's and Llama 3's do, are served.
   * @throws {Error} the template alters contents otherwise, so authorship is not plain
   */
  segments(messages: readonly PromptMessage[]): PromptSegment[] {
    const nonce = randomUUID()
    const standIn = (index: number): string => `{${nonce}:${index}}`
    const skeleton = this.render(
      messages.map(({ role }, index) => ({ role, content: standIn(index) })),
    )
    // Odd parts are the captured message indices.
    const parts = skeleton.split(new RegExp(`\\{${nonce}:(\\d+)\\}`))
    const whole = this.render(messages)
    for (const change of [(content: string) => content, (content: string) => content.trim()]) {
      const segments = parts
        .map((part, i): PromptSegment =>
          i % 2 === 0
            ? { text: part, trusted: true }
            : { text: change(messages[Number(part)]!.content), trusted: false },
        )
        .filter(({ text }) => text !== '')
      if (segments.map(({ text }) => text).join('') === whole) return segments
    }
    throw new Error('the chat template alters message contents; it cannot be encoded safely')
  }
}
