/** `POST /v1/responses`: reads a request as a chat's, and refuses by name what is not served. */
import { z } from 'zod'
import { jsonSchemaFields, schemaFormat, type RunnerResponseFormat } from '../response-format.ts'
import { MAX_TOP_LOGPROBS } from '../runner.ts'
import { functionNameSchema, MAX_TOOLS } from '../tools.ts'
import { maxTokensSchema, type ChatRequest } from './chat-completions.ts'
import { arcanaField, confidenceIn } from './confidence.ts'
import { ofUnknownKind } from './kinds.ts'
import { metadataSchema } from './metadata.ts'
import { dropNulls } from './nulls.ts'
import { inputSchema } from './response-input.ts'
import type { ResponseSettings } from './responses.ts'
import { checkStreamOptions, commonRequestOf, samplingFields, streamFields } from './sampling.ts'
import { serviceTierField } from './service-tier.ts'
import { checkTools, functionFields, toFunction } from './tools.ts'
import {
  CALLER_FIELDS,
  emptyArray,
  nothing,
  refuseUnsupported,
  type ReadBody,
  type Unsupported,
} from './unsupported.ts'

const UNSUPPORTED: Unsupported = {
  access_programs: nothing,
  background: z.literal(false),
  context_management: emptyArray,
  conversation: nothing,
  image: nothing,
  moderation: nothing,
  previous_response_id: nothing,
  prompt: nothing,
  store: z.literal(false),
  truncation: z.literal('disabled'),
}
const IGNORED: Unsupported = {
  ...CALLER_FIELDS,
  /** It counts calls of hosted tools, and there are none here. */
  max_tool_calls: z.int(),
  reasoning: z.record(z.string(), z.unknown()),
}
/** Fields that a request may have and that the schema below does not read. */
export const UNREAD_OF_RESPONSES: Unsupported = { ...UNSUPPORTED, ...IGNORED }

/** @throws {ApiError} 400 naming a field that is not served */
export function withoutUnsupportedOfResponses(given: Record<string, unknown>): ReadBody {
  const { body, ignored } = refuseUnsupported(given, UNSUPPORTED, IGNORED)
  // For OpenAI a request without `store` asks for storage, and most clients send none.
  return { body, ignored: given['store'] == null ? [...ignored, 'store'] : ignored }
}

const formatSchema = z.preprocess(
  dropNulls,
  z.discriminatedUnion(
    'type',
    [
      z.strictObject({ type: z.literal('text') }),
      z.strictObject({ type: z.literal('json_object') }),
      z.strictObject({
        type: z.literal('json_schema'),
        ...jsonSchemaFields,
        schema: jsonSchemaFields.schema.unwrap(),
      }),
    ],
    { error: ofUnknownKind(() => 'must be one of text, json_object, json_schema') },
  ),
)
type TextFormat = z.output<typeof formatSchema>

function runnerFormatOf(format: TextFormat): RunnerResponseFormat | undefined {
  if (format.type === 'text') return undefined
  return schemaFormat(format.type === 'json_schema' ? format : {})
}

const toolSchema = z.preprocess(
  dropNulls,
  z.strictObject({
    type: z.literal('function', {
      error: ({ input }) => `${JSON.stringify(input)} is not served; only functions are`,
    }),
    ...functionFields,
    defer_loading: z.literal(false).optional(),
  }),
)

const choiceSchema = z.union(
  [
    z.enum(['none', 'auto', 'required']),
    z.strictObject({ type: z.literal('function'), name: functionNameSchema }),
  ],
  { error: 'must be "none", "auto", "required", or a function by its name' },
)

const LOGPROBS = 'message.output_text.logprobs'
/** What OpenAI's clients may ask for beside an answer. Only log probabilities exist here. */
const INCLUDABLE = [
  LOGPROBS,
  'code_interpreter_call.outputs',
  'computer_call_output.output.image_url',
  'file_search_call.results',
  'message.input_image.image_url',
  'reasoning.encrypted_content',
  'web_search_call.action.sources',
  'web_search_call.results',
] as const

const bodySchema = z.strictObject({
  model: z.string().min(1),
  input: inputSchema,
  instructions: z.string().default(''),
  include: z.array(z.enum(INCLUDABLE)).max(INCLUDABLE.length).default([]),
  max_output_tokens: maxTokensSchema.optional(),
  metadata: metadataSchema.default({}),
  parallel_tool_calls: z.boolean().default(true),
  service_tier: serviceTierField,
  text: z
    .strictObject({
      format: formatSchema.nullish(),
      verbosity: z.enum(['low', 'medium', 'high']).nullish(),
    })
    .default({}),
  tool_choice: choiceSchema.default('auto'),
  tools: z.array(toolSchema).max(MAX_TOOLS).default([]),
  top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).default(0),
  ...z.object(samplingFields).omit({ n: true }).shape,
  ...streamFields,
  arcana: arcanaField,
})

export type ResponseRequest = {
  readonly chat: ChatRequest
  /** The answer repeats them. */
  readonly settings: ResponseSettings
  /** Fields, and parts of fields, that do nothing here. */
  readonly ignored: readonly string[]
}

export const responseRequestSchema = bodySchema.transform((body, context): ResponseRequest => {
  checkStreamOptions(body, context)
  const { include, instructions, text, tool_choice: choice, parallel_tool_calls: parallel } = body
  const format = text.format ?? { type: 'text' as const }
  const responseFormat = runnerFormatOf(format)
  const functions = body.tools.map(toFunction)
  const tools = checkTools(functions, choice, parallel, context, [])
  const hasLogprobs = include.includes(LOGPROBS) || body.top_logprobs > 0
  return {
    chat: {
      ...commonRequestOf({ ...body, n: 1 }, hasLogprobs ? body.top_logprobs : null),
      messages:
        // An empty text instructs nothing, but would replace a task's instructions.
        instructions === ''
          ? body.input
          : [{ role: 'system', content: instructions }, ...body.input],
      maxTokens: body.max_output_tokens,
      responseFormat,
      tools,
      confidence: confidenceIn(body.arcana),
    },
    settings: {
      instructions: instructions === '' ? null : instructions,
      max_output_tokens: body.max_output_tokens ?? null,
      metadata: body.metadata,
      parallel_tool_calls: parallel,
      text: { format },
      tool_choice: choice,
      tools: functions.map(({ name, description, parameters, strict }) => ({
        type: 'function',
        name,
        description: description ?? null,
        parameters: parameters ?? null,
        strict: strict === true,
      })),
      top_logprobs: body.top_logprobs,
      top_p: body.top_p,
    },
    ignored: [
      ...(include.some((what) => what !== LOGPROBS) ? ['include'] : []),
      ...(text.verbosity == null ? [] : ['text.verbosity']),
    ],
  }
})

/** Fields that a response and a chat name differently: the chat's name, then the response's. */
const PARAMS: Readonly<Record<string, string>> = {
  max_tokens: 'max_output_tokens',
  messages: 'input',
  response_format: 'text.format',
}
/** Names a field as a response's request does. @param param the field's name in a chat */
export const toResponseParam = (param: string): string =>
  PARAMS[param] ?? param.replace(/^(tools\[\d+\])\.function\b/, '$1')
