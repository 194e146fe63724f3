/** Messages of a chat, as clients send them. */
import { z } from 'zod'
import type { ChatMessage, PromptMessage } from '../runner.ts'
import { functionNameSchema, MAX_TOOL_CALLS, type ToolCall } from '../tools.ts'
import { isShallow, MAX_SCHEMA_NESTING } from '../response-format.ts'
import { textContentSchema } from './content.ts'

/** OpenAI's rule: no white space, and no character that marks up a prompt. */
export const participantNameSchema = z
  .string()
  .regex(/^[^\s<|\\/>]{1,64}$/, 'must be 1 to 64 characters without white space, <, |, \\, / or >')

/** Clients that append an answer to the conversation send these fields back. */
const answerFields = {
  refusal: z.null().optional(),
  annotations: z.array(z.unknown()).max(0).nullish(),
  audio: z.null().optional(),
  function_call: z.null().optional(),
}
export const ROLES = ['system', 'developer', 'user', 'assistant'] as const
/** `developer` is OpenAI's newer word for `system`. */
export const roleOf = (role: (typeof ROLES)[number]): PromptMessage['role'] =>
  role === 'developer' ? 'system' : role

const nameField = (name: string | null | undefined) => (name == null ? {} : { name })

/** An assistant's content is null beside its calls, and if its answer was withheld. */
function withSilence(message: unknown): unknown {
  if (typeof message !== 'object' || message === null) return message
  const { role, content } = message as { readonly role?: unknown; readonly content?: unknown }
  return role === 'assistant' && content == null ? { ...message, content: '' } : message
}

const messageSchema = z
  .strictObject({
    role: z.enum(ROLES, { error: 'must be one of system, developer, user, assistant' }),
    content: textContentSchema,
    name: participantNameSchema.nullish(),
    tool_calls: z.array(z.unknown()).max(0).nullish(),
    ...answerFields,
  })
  .transform(({ role, content, name }): PromptMessage => ({
    role: roleOf(role),
    content,
    ...nameField(name),
  }))

/** OpenAI's limit. Even an empty message costs a pass through the chat template. */
export const MAX_MESSAGES = 2048
const TOO_MANY = `must hold at most ${MAX_MESSAGES} messages`

/** A conversation without calls of functions. */
export const messagesSchema = z
  .array(z.preprocess(withSilence, messageSchema))
  .min(1, 'must hold at least one message')
  .max(MAX_MESSAGES, TOO_MANY)

/** The arguments of a call: a JSON object, written as a string. */
export const argumentsSchema = z.string().transform((json, context): Record<string, unknown> => {
  const value = parseJson(json)
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (isObject && isShallow(value)) return value as Record<string, unknown>
  const message = isObject
    ? `is nested more than ${MAX_SCHEMA_NESTING} deep`
    : 'must be a JSON object, written as a string'
  context.addIssue({ code: 'custom', message })
  return z.NEVER
})

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const toolCallSchema = z
  .strictObject({
    id: z.string().min(1),
    type: z.literal('function', { error: 'only functions are supported' }),
    function: z.strictObject({ name: functionNameSchema, arguments: argumentsSchema }),
  })
  .transform(({ id, function: { name, arguments: given } }): ToolCall => ({
    id,
    name,
    arguments: given,
  }))

const chatMessageSchema = z.strictObject({
  role: z.enum([...ROLES, 'tool'], {
    error: 'must be one of system, developer, user, assistant, tool',
  }),
  content: z
    .unknown()
    .optional()
    .meta({
      anyOf: [{ type: ['string', 'null'] }, { type: 'array', items: { type: 'object' } }],
      description:
        'A text, or parts of the type text. An assistant that calls functions needs none.',
    }),
  // Some clients put the function's name into a tool message.
  name: participantNameSchema.nullish(),
  tool_calls: z.array(toolCallSchema).max(MAX_TOOL_CALLS).nullish(),
  tool_call_id: z.string().nullish(),
  ...answerFields,
})

/** The messages of a chat. Each result of a function follows the message that called it. */
export const chatMessagesSchema = z
  .array(z.preprocess(withSilence, chatMessageSchema))
  .min(1, 'must hold at least one message')
  .max(MAX_MESSAGES, TOO_MANY)
  .transform((messages, context): ChatMessage[] => {
    /** The last assistant's calls. */
    let calls: readonly ToolCall[] = []
    return messages.flatMap((message, i): ChatMessage[] => {
      const reject = (field: string, message: string): [] => {
        context.addIssue({ code: 'custom', path: [i, field], message })
        return []
      }
      const { role, tool_calls: ownCalls, tool_call_id: callId } = message
      const named = nameField(message.name)
      const called = role === 'assistant' ? (ownCalls ?? []) : []
      if (role !== 'assistant' && (ownCalls ?? []).length > 0) {
        return reject('tool_calls', 'is only allowed in assistant messages')
      }
      if (role !== 'tool' && callId != null) {
        return reject('tool_call_id', 'is only allowed in tool messages')
      }
      if (role !== 'tool') calls = called
      const text = textContentSchema.safeParse(message.content)
      if (!text.success) {
        for (const { path, message: fault } of text.error.issues) {
          context.addIssue({ code: 'custom', path: [i, 'content', ...path], message: fault })
        }
        return []
      }
      const content = text.data
      if (called.length > 0) {
        return [{ role: 'assistant', content, ...named, tool_calls: [...called] }]
      }
      if (role !== 'tool') return [{ role: roleOf(role), content, ...named }]
      if (callId == null) return reject('tool_call_id', 'is required in a tool message')
      const answered = calls.find(({ id }) => id === callId)
      if (!answered) {
        return reject('tool_call_id', 'is not a call of the assistant message before it')
      }
      if (message.name != null && message.name !== answered.name) {
        return reject('name', `must be "${answered.name}", the function of this call`)
      }
      return [{ role, content, tool_call_id: callId, name: answered.name }]
    })
  })
