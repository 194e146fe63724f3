/** Answers of `/v1/responses`, whole and as events. */
import { z } from 'zod'
import type { ResponseEvent, ResponseObject } from '../../protocol/openai/responses.ts'
import { serviceTierSchema } from '../../protocol/runner.ts'
import { proof, tokenLogprobs } from './chat.ts'
import { unixSeconds } from './common.ts'

const count = z.int().min(0)
const status = z.enum(['in_progress', 'completed', 'incomplete'])

const outputText = z.object({
  type: z.literal('output_text'),
  text: z.string(),
  // An empty `prefixItems`, which zod writes, is no JSON Schema; it writes `maxItems` too.
  annotations: z.tuple([]).meta({ prefixItems: undefined }),
  logprobs: tokenLogprobs,
})

const outputItem = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('message'),
    id: z.string(),
    status,
    role: z.literal('assistant'),
    content: z.array(outputText),
  }),
  z.object({
    type: z.literal('function_call'),
    id: z.string(),
    status,
    call_id: z.string(),
    name: z.string(),
    arguments: z.string().describe('JSON, as the model wrote it.'),
  }),
])

export const response = z.object({
  id: z.string(),
  object: z.literal('response'),
  created_at: unixSeconds,
  completed_at: unixSeconds.nullable(),
  status: z.enum([...status.options, 'failed']),
  error: z
    .object({ code: z.enum(['server_error', 'rate_limit_exceeded']), message: z.string() })
    .nullable(),
  incomplete_details: z.object({ reason: z.literal('max_output_tokens') }).nullable(),
  model: z.string(),
  output: z.array(outputItem),
  temperature: z.number(),
  usage: z
    .object({
      input_tokens: count,
      input_tokens_details: z.object({
        cached_tokens: count,
        cache_write_tokens: z.literal(0),
      }),
      output_tokens: count,
      output_tokens_details: z.object({ reasoning_tokens: z.literal(0) }),
      total_tokens: count,
    })
    .nullable(),
  service_tier: serviceTierSchema.exactOptional(),
  background: z.literal(false),
  max_tool_calls: z.null(),
  previous_response_id: z.null(),
  reasoning: z.object({ effort: z.null(), summary: z.null() }),
  store: z.literal(false),
  truncation: z.literal('disabled'),
  arcana: proof,
  instructions: z.string().nullable(),
  max_output_tokens: z.int().nullable(),
  metadata: z.record(z.string(), z.string()),
  parallel_tool_calls: z.boolean(),
  text: z.object({ format: z.looseObject({ type: z.string() }) }),
  tool_choice: z.union([z.string(), z.object({ type: z.literal('function'), name: z.string() })]),
  tools: z.array(
    z.object({
      type: z.literal('function'),
      name: z.string(),
      description: z.string().nullable(),
      parameters: z.record(z.string(), z.unknown()).nullable(),
      strict: z.boolean(),
    }),
  ),
  top_logprobs: count,
  top_p: z.number(),
}) satisfies z.ZodType<ResponseObject>

const ofEvent = { sequence_number: count }
const ofItem = { ...ofEvent, output_index: count, item_id: z.string() }
const ofPart = { ...ofItem, content_index: z.literal(0) }

export const responseEvent = z.discriminatedUnion('type', [
  z.object({
    ...ofEvent,
    type: z.enum([
      'response.created',
      'response.in_progress',
      'response.completed',
      'response.incomplete',
      'response.failed',
    ]),
    response,
  }),
  z.object({
    ...ofEvent,
    type: z.enum(['response.output_item.added', 'response.output_item.done']),
    output_index: count,
    item: outputItem,
  }),
  z.object({
    ...ofPart,
    type: z.enum(['response.content_part.added', 'response.content_part.done']),
    part: outputText,
  }),
  z.object({
    ...ofPart,
    type: z.literal('response.output_text.delta'),
    delta: z.string(),
    logprobs: tokenLogprobs,
  }),
  z.object({
    ...ofPart,
    type: z.literal('response.output_text.done'),
    text: z.string(),
    logprobs: tokenLogprobs,
  }),
  z.object({
    ...ofItem,
    type: z.literal('response.function_call_arguments.delta'),
    delta: z.string(),
  }),
  z.object({
    ...ofItem,
    type: z.literal('response.function_call_arguments.done'),
    name: z.string(),
    arguments: z.string(),
  }),
]) satisfies z.ZodType<ResponseEvent>
