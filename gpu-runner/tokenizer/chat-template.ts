import { randomUUID } from 'node:crypto'
import { Template } from '@huggingface/jinja'
import type { ChatMessage } from '../../src/protocol/runner.ts'
import type { ToolFunction } from '../../src/protocol/tools.ts'
import { GENERIC_FORMAT, hasCallOrResult, toGenericChat } from '../tools/generic-form.ts'
import { TOOL_FORMATS, type ToolFormat } from '../tools/tool-format.ts'

/** A stretch of the prompt, written by the template (trusted) or by a message's author. */
export interface PromptSegment {
  readonly text: string
  readonly trusted: boolean
}

/** What a template does with functions, found out by rendering some. */
export type ToolSupport = {
  /**
   * Whether the template itself shows the functions. If not, messages show functions, calls and results
   * in the generic form.
   */
  readonly showsFunctions: boolean
  /** Whether the prompt shows earlier calls and their results, by the template or in messages. */
  readonly showsCalls: boolean
  /** How the model writes calls; null where the template teaches an unknown format. */
  readonly format: ToolFormat | null
}

/** Whether a text holds something that must not be taken for the template's own text. */
type IsSuspect = (text: string) => boolean
const NEVER: IsSuspect = () => false

/** The forms in which templates write a text they are given. */
const WAYS_TO_WRITE: readonly ((text: string) => string)[] = [
  (text) => text,
  (text) => text.trim(),
  (text) => JSON.stringify(text).slice(1, -1),
]

/** The model's own Jinja chat template. */
export class ChatTemplate {
  readonly source: string
  readonly #template: Template
  readonly #variables: Readonly<Record<string, unknown>>
  #toolSupport: ToolSupport | null = null

  /** @param variables the template's variables besides the messages: bos_token, eos_token */
  constructor(source: string, variables: Readonly<Record<string, unknown>> = {}) {
    this.source = source
    this.#template = new Template(source)
    this.#variables = variables
  }

  get toolSupport(): ToolSupport {
    return (this.#toolSupport ??= this.#probeTools())
  }

  /** The prompt's text, up to where the assistant's answer begins. */
  render(messages: readonly ChatMessage[], functions: readonly ToolFunction[] = []): string {
    return this.#isGeneric(messages, functions)
      ? this.#render(toGenericChat(messages, functions))
      : this.#render(messages, functions)
  }

  #isGeneric(messages: readonly ChatMessage[], functions: readonly ToolFunction[]): boolean {
    const hasTools = functions.length > 0 || messages.some(hasCallOrResult)
    return hasTools && !this.toolSupport.showsFunctions
  }

  #render(messages: readonly ChatMessage[], functions: readonly ToolFunction[] = []): string {
    return this.#template.render({
      ...this.#variables,
      messages: messages.map(toTemplateMessage),
      // As transformers does, since a template may test for none.
      tools: functions.length === 0 ? null : functions.map(toTemplateTool),
      add_generation_prompt: true,
    })
  }

  /**
   * The prompt in stretches that join to `render(messages, functions)`, each marked with who wrote it.
   * Contents are rendered as random placeholders, which are then found in the prompt. Names and texts in
   * functions and calls are replaced only if they are suspect, since templates look into them.
   * Templates may trim contents, as Gemma's and Llama 3's do.
   * @throws {Error} the template alters contents in another way, so it is unclear who wrote what
   */
  segments(
    messages: readonly ChatMessage[],
    functions: readonly ToolFunction[] = [],
    isSuspect: IsSuspect = NEVER,
  ): PromptSegment[] {
    if (this.#isGeneric(messages, functions)) {
      return this.segments(toGenericChat(messages, functions), [], isSuspect)
    }
    const nonce = randomUUID()
    const hidden: string[] = []
    const hide = (text: string): string => {
      hidden.push(text)
      return `{${nonce}:${hidden.length - 1}}`
    }
    const hideSuspects = (text: string): string => (isSuspect(text) ? hide(text) : text)
    const skeleton = this.render(
      messages.map((message): ChatMessage => {
        // Templates test whether there is a content at all.
        const content = message.content === '' ? '' : hide(message.content)
        const shown = { ...message, content }
        if (shown.name !== undefined) shown.name = hideSuspects(shown.name)
        if (!('tool_calls' in shown)) return shown
        const calls = shown.tool_calls.map((call) => mapTexts(call, hideSuspects))
        return { ...shown, tool_calls: calls }
      }),
      functions.map((each) => mapTexts(each, hideSuspects)),
    )
    // Odd parts are the captured indices.
    const parts = skeleton.split(new RegExp(`\\{${nonce}:(\\d+)\\}`))
    const whole = this.render(messages, functions)
    const segments: PromptSegment[] = []
    let at = 0
    for (const [i, part] of parts.entries()) {
      const text = i % 2 === 0 ? part : findWritten(whole, at, hidden[Number(part)]!, parts[i + 1]!)
      if (text === null || !whole.startsWith(text, at)) break
      at += text.length
      if (text !== '') segments.push({ text, trusted: i % 2 === 0 })
    }
    if (segments.map(({ text }) => text).join('') === whole) return segments
    throw new Error('the chat template alters message contents; it cannot be encoded safely')
  }

  #probeTools(): ToolSupport {
    // Letters and digits only, which no template escapes.
    const [shown, called, result] = ['f', 'g', 'r'].map((kind) => kind + randomUUID().slice(0, 8))
    const render = (...messages: ChatMessage[]): string => {
      try {
        return this.#render(messages, [{ name: shown!, parameters: { type: 'object' } }])
      } catch {
        return ''
      }
    }
    const ask: ChatMessage = { role: 'user', content: 'q' }
    const call = { id: 'call00000', name: called!, arguments: { a: 1 } }
    const prompt = render(ask)
    const after = render(
      ask,
      { role: 'assistant', content: '', tool_calls: [call] },
      { role: 'tool', content: result!, tool_call_id: call.id, name: called! },
    )
    const seen = `${prompt}\n${after}`
    if (!prompt.includes(shown!)) {
      return { showsFunctions: false, showsCalls: true, format: GENERIC_FORMAT }
    }
    return {
      showsFunctions: true,
      showsCalls: after.includes(called!) && after.includes(result!),
      format: TOOL_FORMATS.find(({ isOf }) => isOf(seen, called!)) ?? null,
    }
  }
}

function findWritten(whole: string, at: number, text: string, next: string): string | null {
  const forms = WAYS_TO_WRITE.map((write) => write(text))
  return (
    forms.find((form) => whole.startsWith(form, at) && whole.startsWith(next, at + form.length)) ??
    null
  )
}

/** A message as Hugging Face's templates take it: OpenAI's form, with arguments as an object. */
function toTemplateMessage(message: ChatMessage): Record<string, unknown> {
  const { role, content, name } = message
  const shown = { role, content, ...(name === undefined ? {} : { name }) }
  if (message.role === 'tool') return { ...shown, tool_call_id: message.tool_call_id }
  if (!('tool_calls' in message)) return shown
  const calls = message.tool_calls.map(({ id, name, arguments: given }) => ({
    id,
    type: 'function',
    function: { name, arguments: given },
  }))
  return { ...shown, tool_calls: calls }
}

const NO_PARAMETERS = { type: 'object', properties: {} }

function toTemplateTool({ name, description, parameters = NO_PARAMETERS }: ToolFunction): object {
  return {
    type: 'function',
    function: { name, ...(description === undefined ? {} : { description }), parameters },
  }
}

/** Applies `change` to each text in a JSON value, keys included. */
function mapTexts<T>(value: T, change: (text: string) => string): T {
  const map = (item: unknown): unknown => {
    if (typeof item === 'string') return change(item)
    if (Array.isArray(item)) return item.map(map)
    if (typeof item !== 'object' || item === null) return item
    return Object.fromEntries(Object.entries(item).map(([key, inner]) => [change(key), map(inner)]))
  }
  return map(value) as T
}
