/** Functions that a chat's answer may call, and the messages in which calls and results stand. */
import { z } from 'zod'
import { schemaObjectSchema } from './response-format.ts'

/** As OpenAI's. */
export const MAX_TOOLS = 128
/** Far past any use: each call is written out token by token. */
export const MAX_TOOL_CALLS = 128

export const functionNameSchema = z
  .string()
  .regex(/^[\w-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -')

export const functionSchema = z.object({
  name: functionNameSchema,
  description: z.string().optional(),
  /** JSON Schema of the arguments' object; absent is no arguments. */
  parameters: schemaObjectSchema.optional(),
  /** Hold the arguments to the schema wherever the function is called. */
  strict: z.boolean().optional(),
})
export type ToolFunction = z.infer<typeof functionSchema>

/** Whether the answer calls functions: as it likes, at least one, or this one. */
const toolChoiceSchema = z.union([
  z.enum(['auto', 'required']),
  z.object({ name: functionNameSchema }),
])

/** Of `POST /v1/generate`, beside `messages`. */
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

/** One message as the model's template sees it; all but these two kinds are `promptMessageSchema`'s. */
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
    /** The function called. */
    name: functionNameSchema,
  }),
] as const
