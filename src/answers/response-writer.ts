import type { ApiError } from '../protocol/openai/error.ts'
import type {
  ArcanaProof,
  ChatTokenLogprob,
  FinishReason,
} from '../protocol/openai/chat-completions.ts'
import {
  createCallItemId,
  createMessageId,
  toResponseError,
  toResponseUsage,
  type ItemStatus,
  type OutputItem,
  type OutputText,
  type ResponseEvent,
  type ResponseEventBody,
  type ResponseObject,
  type ResponseSettings,
} from '../protocol/openai/responses.ts'
import type { ChatEvent } from '../tasks/chat-answer.ts'
import type { AnswerHead } from './answer-context.ts'

export type ResponseWriterOptions = {
  readonly head: AnswerHead
  readonly settings: ResponseSettings
  readonly temperature: number
}

type OpenMessage = {
  readonly kind: 'message'
  readonly id: string
  /** Null until the answer has text. */
  text: string | null
  readonly logprobs: (ChatTokenLogprob & { readonly top_logprobs: readonly ChatTokenLogprob[] })[]
}
type OpenCall = {
  readonly kind: 'call'
  readonly id: string
  readonly callId: string
  readonly name: string
  arguments: string
}

/**
 * Writes a chat's answer as a response: event by event, and as one object. An answer that comes
 * whole is the object with which its stream would end.
 */
export class ResponseWriter {
  readonly #options: ResponseWriterOptions
  readonly #write: (event: ResponseEvent) => void
  #numEvents = 0
  readonly #output: OutputItem[] = []
  #open: OpenMessage | OpenCall | null = null
  #arcana: ArcanaProof | null = null
  #reason: FinishReason | null = null
  #end: Pick<ResponseObject, 'status'> & Partial<ResponseObject> = { status: 'in_progress' }

  constructor(options: ResponseWriterOptions, write: (event: ResponseEvent) => void) {
    this.#options = options
    this.#write = write
  }

  read(event: ChatEvent): void {
    switch (event.kind) {
      case 'begin':
        this.#arcana = event.arcana
        this.#send({ type: 'response.created', response: this.response })
        this.#send({ type: 'response.in_progress', response: this.response })
        break
      case 'text':
        this.#readText(event)
        break
      case 'call':
        this.#readCall(event)
        break
      case 'end':
        this.#readEnd(event)
        break
      case 'usage':
        this.#finish(event)
        break
    }
  }

  /** Ends an answer that has begun and cannot continue. */
  fail(error: ApiError): void {
    this.#end = { status: 'failed', error: toResponseError(error) }
    this.#send({ type: 'response.failed', response: this.response })
  }

  /** The response as far as it has come. */
  get response(): ResponseObject {
    const { head, settings, temperature } = this.#options
    const { created, ...names } = head
    const unfinished = this.#open === null ? [] : [toItem(this.#open, 'incomplete')]
    return {
      ...names,
      object: 'response',
      created_at: created,
      completed_at: null,
      error: null,
      incomplete_details: null,
      output: [...this.#output, ...unfinished],
      usage: null,
      ...settings,
      temperature,
      background: false,
      max_tool_calls: null,
      previous_response_id: null,
      reasoning: { effort: null, summary: null },
      store: false,
      truncation: 'disabled',
      ...this.#end,
      // The first event of every answer sets it.
      arcana: this.#arcana!,
    }
  }

  #send(event: ResponseEventBody): void {
    this.#write({ ...event, sequence_number: this.#numEvents++ })
  }

  #readText({ text, logprobs }: Extract<ChatEvent, { kind: 'text' }>): void {
    const message = this.#open?.kind === 'message' ? this.#open : this.#openMessage()
    if (text === null) return
    if (message.text === null) this.#openPart(message)
    const delta = { delta: text, logprobs: logprobs?.content ?? [] }
    message.text = (message.text ?? '') + text
    message.logprobs.push(...delta.logprobs)
    this.#send({ type: 'response.output_text.delta', ...this.#part(message), ...delta })
  }

  #readCall({ begun, arguments: json }: Extract<ChatEvent, { kind: 'call' }>): void {
    if (begun !== null) {
      this.#close('completed')
      const { id: callId, name } = begun
      this.#begin({ kind: 'call', id: createCallItemId(), callId, name, arguments: '' })
    }
    if (this.#open?.kind !== 'call' || json === '') return
    this.#open.arguments += json
    const type = 'response.function_call_arguments.delta'
    this.#send({ type, ...this.#item(this.#open), delta: json })
  }

  #readEnd({ reason, arcana }: Extract<ChatEvent, { kind: 'end' }>): void {
    this.#arcana = arcana
    this.#reason = reason
    // An answer that says nothing is an empty text.
    if (this.#open === null && this.#output.length === 0) this.#openPart(this.#openMessage())
    // The last call is complete only if calls are the reason for the end.
    const isCut = reason === 'length' || (this.#open?.kind === 'call' && reason !== 'tool_calls')
    this.#close(isCut ? 'incomplete' : 'completed')
  }

  #finish({ usage }: Extract<ChatEvent, { kind: 'usage' }>): void {
    const isCut = this.#reason === 'length'
    this.#end = isCut
      ? { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } }
      : { status: 'completed', completed_at: Math.floor(Date.now() / 1000) }
    this.#end = { ...this.#end, usage: toResponseUsage(usage) }
    const type = isCut ? 'response.incomplete' : 'response.completed'
    this.#send({ type, response: this.response })
  }

  #openMessage(): OpenMessage {
    this.#close('completed')
    const message: OpenMessage = {
      kind: 'message',
      id: createMessageId(),
      text: null,
      logprobs: [],
    }
    this.#begin(message)
    return message
  }

  #begin(item: OpenMessage | OpenCall): void {
    this.#open = item
    this.#send({
      type: 'response.output_item.added',
      output_index: this.#output.length,
      item: toItem(item, 'in_progress'),
    })
  }

  #openPart(message: OpenMessage): void {
    message.text = ''
    const part = toPart('', [])
    this.#send({ type: 'response.content_part.added', ...this.#part(message), part })
  }

  #close(status: ItemStatus): void {
    const open = this.#open
    if (open === null) return
    if (open.kind === 'call') {
      const { name, arguments: json } = open
      const type = 'response.function_call_arguments.done'
      this.#send({ type, ...this.#item(open), name, arguments: json })
    } else if (open.text !== null) {
      const { text, logprobs } = open
      const at = this.#part(open)
      this.#send({ type: 'response.output_text.done', ...at, text, logprobs })
      this.#send({ type: 'response.content_part.done', ...at, part: toPart(text, logprobs) })
    }
    const item = toItem(open, status)
    const output_index = this.#output.length
    this.#open = null
    this.#output.push(item)
    this.#send({ type: 'response.output_item.done', output_index, item })
  }

  #item({ id }: OpenMessage | OpenCall) {
    return { item_id: id, output_index: this.#output.length }
  }

  #part(message: OpenMessage) {
    return { ...this.#item(message), content_index: 0 as const }
  }
}

const toPart = (text: string, logprobs: OutputText['logprobs']): OutputText => ({
  type: 'output_text',
  text,
  annotations: [],
  logprobs,
})

function toItem(open: OpenMessage | OpenCall, status: ItemStatus): OutputItem {
  if (open.kind === 'call') {
    const { id, callId, name, arguments: json } = open
    return { type: 'function_call', id, status, call_id: callId, name, arguments: json }
  }
  const { id, text, logprobs } = open
  const content = text === null ? [] : [toPart(text, logprobs)]
  return { type: 'message', id, status, role: 'assistant', content }
}
