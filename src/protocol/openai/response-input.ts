/** `input` of `POST /v1/responses`: the items of a conversation, read as messages of a chat. */
import { z } from 'zod'
import type { ChatMessage } from '../runner.ts'
import { functionNameSchema, MAX_TOOL_CALLS, type ToolCall } from '../tools.ts'
import { textContentOf } from './content.ts'
import { ofUnknownKind } from './kinds.ts'
import { argumentsSchema, MAX_MESSAGES, roleOf, ROLES } from './messages.ts'
import { dropNulls } from './nulls.ts'

const partSchema = z.preprocess(
  dropNulls,
  z.discriminatedUnion(
    'type',
    [
      z.strictObject({ type: z.literal('input_text'), text: z.string() }),
      z.strictObject({
        type: z.literal('output_text'),
        text: z.string(),
        annotations: z.array(z.unknown()).max(0).optional(),
        logprobs: z.array(z.unknown()).optional(),
        /** OpenAI's client adds it to an answer that it has parsed. */
        parsed: z.unknown().optional(),
      }),
    ],
    { error: ofUnknownKind(() => 'only input_text and output_text are supported') },
  ),
)
const contentSchema = textContentOf(partSchema, ['input_text', 'output_text'])

/** Items of an earlier answer have these. */
const answerFields = { id: z.string().optional(), status: z.string().optional() }

const kindFault = (item: unknown): string =>
  (item as { readonly type?: unknown }).type === 'item_reference'
    ? 'item_reference names what was stored, and nothing is stored here; send the item itself'
    : 'only message, function_call and function_call_output are supported'

const itemSchema = z.discriminatedUnion(
  'type',
  [
    z.strictObject({
      type: z.literal('message'),
      role: z.enum(ROLES, { error: 'must be one of system, developer, user, assistant' }),
      content: contentSchema,
      phase: z.string().optional(),
      ...answerFields,
    }),
    z.strictObject({
      type: z.literal('function_call'),
      call_id: z.string().min(1),
      name: functionNameSchema,
      arguments: argumentsSchema,
      /** OpenAI's client adds it, as it adds `parsed`. */
      parsed_arguments: z.unknown().optional(),
      ...answerFields,
    }),
    z.strictObject({
      type: z.literal('function_call_output'),
      call_id: z.string().min(1),
      name: functionNameSchema.optional(),
      output: contentSchema,
      ...answerFields,
    }),
  ],
  { error: ofUnknownKind(kindFault) },
)
type Item = z.output<typeof itemSchema>

/** Fills in what clients leave out: a message's type, and the content of a withheld answer. */
function complete(item: unknown): unknown {
  const given = dropNulls(item)
  if (typeof given !== 'object' || given === null) return given
  const { type = 'message', role, content } = given as Readonly<Record<string, unknown>>
  const isEmpty = content === undefined || (Array.isArray(content) && content.length === 0)
  const isSilent = type === 'message' && role === 'assistant' && isEmpty
  return { ...given, type, ...(isSilent ? { content: '' } : {}) }
}

export const inputSchema = z
  .unknown()
  .transform((input, context): ChatMessage[] => {
    if (typeof input === 'string') return [{ role: 'user', content: input }]
    if (!Array.isArray(input) || input.length === 0 || input.length > MAX_MESSAGES) {
      const message = `must be a string or an array of 1 to ${MAX_MESSAGES} items`
      context.addIssue({ code: 'custom', message })
      return z.NEVER
    }
    const reader = new ItemReader()
    for (const [i, given] of input.entries()) {
      const item = itemSchema.safeParse(complete(given))
      const fault = item.success ? reader.read(item.data) : null
      if (fault !== null) context.addIssue({ code: 'custom', ...fault, path: [i, ...fault.path] })
      for (const issue of item.error?.issues ?? []) {
        context.issues.push({ ...issue, path: [i, ...issue.path] } as z.core.$ZodRawIssue)
      }
      // It reports the first fault only: a body has room for hundreds of thousands.
      if (fault !== null || !item.success) return z.NEVER
    }
    return reader.messages
  })
  .meta({
    anyOf: [
      { type: 'string' },
      {
        type: 'array',
        minItems: 1,
        maxItems: MAX_MESSAGES,
        items: { type: 'object' },
      },
    ],
    description: 'A text, or items of the types message, function_call and function_call_output.',
  })

type Fault = { readonly path: readonly string[]; readonly message: string }

/**
 * Joins an answer's items, its text and its calls, into the one message that a chat has for them.
 */
class ItemReader {
  readonly messages: ChatMessage[] = []
  readonly #calls = new Map<string, ToolCall>()

  read(item: Item): Fault | null {
    if (item.type === 'message') {
      this.messages.push({ role: roleOf(item.role), content: item.content })
      return null
    }
    return item.type === 'function_call' ? this.#readCall(item) : this.#readResult(item)
  }

  #readCall(item: Extract<Item, { type: 'function_call' }>): Fault | null {
    const call: ToolCall = { id: item.call_id, name: item.name, arguments: item.arguments }
    this.#calls.set(call.id, call)
    const last = this.messages.at(-1)
    const isOfLast = last?.role === 'assistant'
    const earlier = isOfLast && 'tool_calls' in last ? last.tool_calls : []
    if (earlier.length === MAX_TOOL_CALLS) {
      return {
        path: [],
        message: `is call number ${MAX_TOOL_CALLS + 1} of one answer; that is too many`,
      }
    }
    if (isOfLast) this.messages.pop()
    this.messages.push({
      role: 'assistant',
      content: isOfLast ? last.content : '',
      tool_calls: [...earlier, call],
    })
    return null
  }

  #readResult(item: Extract<Item, { type: 'function_call_output' }>): Fault | null {
    const { call_id: id, output: content } = item
    const call = this.#calls.get(id)
    if (call === undefined)
      return { path: ['call_id'], message: 'is the call_id of no function_call before it' }
    if (item.name !== undefined && item.name !== call.name) {
      return { path: ['name'], message: `must be "${call.name}", the function of this call` }
    }
    this.messages.push({ role: 'tool', content, tool_call_id: id, name: call.name })
    return null
  }
}
