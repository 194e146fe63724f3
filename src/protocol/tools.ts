/** Functions that a chat's answer may call, and the messages that hold calls and results. */
import { z } from 'zod'
import { schemaObjectSchema } from './response-format.ts'

/** OpenAI's limit. */
export const MAX_TOOLS = 128
/** No answer needs this many: the model writes each call out token by token. */
export const MAX_TOOL_CALLS = 128

export const functionNameSchema = z
  .string()
  .regex(/^[\w-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -')

export const functionSchema = z.object({
  name: functionNameSchema,
  description: z.string().optional(),
  /** The JSON Schema of the arguments; absent means that there are none. */
  parameters: schemaObjectSchema.optional(),
  /** Enforce the schema on the arguments of every call. */
  strict: z.boolean().optional(),
})
export type ToolFunction = z.infer<typeof functionSchema>

/** Which functions the answer calls: any or none, at least one, or the one named. */
const toolChoiceSchema = z.union([
  z.enum(['auto', 'required']),
  z.object({ name: functionNameSchema }),
])

/** `tools` of the runner's `POST /v1/generate`. They need `messages`. */
export const runnerToolsSchema = z.object({
  functions: z.array(functionSchema).min(1).max(MAX_TOOLS),
  choice: toolChoiceSchema,
  /** Whether the answer may hold more than one call. */
  parallel: z.boolean(),
})
export type RunnerTools = z.infer<typeof runnerToolsSchema>

/** A call that an assistant's message made. */
export const toolCallSchema = z.object({
  id: z.string(),
  name: functionNameSchema,
  arguments: z.record(z.string(), z.unknown()),
})
export type ToolCall = z.infer<typeof toolCallSchema>

/** The messages of a chat that hold calls or results. `promptMessageSchema` has the other kinds. */
export const toolMessageSchemas = [
  z.object({
    role: z.literal('assistant'),
    content: z.string(),
    name: z.string().optional(),
    tool_calls: z.array(toolCallSchema).min(1).max(MAX_TOOL_CALLS),
  }),
  z.object({
    role: z.literal('tool'),
    content: z.string(),
    tool_call_id: z.string(),
    /** The function that was called. */
    name: functionNameSchema,
  }),
] as const
