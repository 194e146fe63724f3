/** `tools` of a chat and how its answer may call them. */
import { z } from 'zod'
import { functionNameSchema, MAX_TOOLS, type RunnerTools, type ToolFunction } from '../tools.ts'
import { schemaObjectSchema } from '../response-format.ts'

/** The fields that describe a function, in chats and in responses. */
export const functionFields = {
  name: functionNameSchema,
  description: z.string().nullish(),
  parameters: schemaObjectSchema.nullish(),
  strict: z.boolean().nullish(),
}
const functionSchema = z.strictObject(functionFields)

export const toFunction = ({
  name,
  description,
  parameters,
  strict,
}: z.output<typeof functionSchema>): ToolFunction => ({
  name,
  ...(description == null ? {} : { description }),
  ...(parameters == null ? {} : { parameters }),
  ...(strict === true ? { strict } : {}),
})

const toolSchema = z
  .strictObject({
    type: z.literal('function', { error: 'only "function" is supported' }),
    function: functionSchema,
  })
  .transform(({ function: given }) => toFunction(given))

const choiceSchema = z.union(
  [
    z.enum(['none', 'auto', 'required']),
    z.strictObject({
      type: z.literal('function'),
      function: z.strictObject({ name: functionNameSchema }),
    }),
  ],
  { error: 'must be "none", "auto", "required", or a function by its name' },
)

export const toolFields = {
  tools: z.array(toolSchema).max(MAX_TOOLS).default([]),
  tool_choice: choiceSchema.default('auto'),
  parallel_tool_calls: z.boolean().default(true),
}

type ToolChoice = 'none' | 'auto' | 'required' | { readonly name: string }

/**
 * @param at where a function's name stands in a tool and in a choice
 * @returns undefined where no function may be called: the answer is then free text, whose prompt
 * names none
 */
export function checkTools(
  functions: ToolFunction[],
  choice: ToolChoice,
  parallel: boolean,
  context: z.RefinementCtx,
  at: readonly string[],
): RunnerTools | undefined {
  const reject = (path: PropertyKey[], message: string): void => {
    context.addIssue({ code: 'custom', path, message })
  }
  const repeated = functions.findIndex(
    ({ name }, i) => functions.findIndex((other) => other.name === name) < i,
  )
  if (repeated >= 0) {
    reject(['tools', repeated, ...at, 'name'], 'is the name of another function too')
  }
  if (functions.length === 0) {
    if (choice !== 'none' && choice !== 'auto') {
      reject(['tool_choice'], 'is only allowed when tools are given')
    }
    return undefined
  }
  if (choice === 'none') return undefined
  if (typeof choice === 'string') return { functions, choice, parallel }
  const { name } = choice
  if (!functions.some((each) => each.name === name)) {
    reject(['tool_choice', ...at, 'name'], 'is not one of the tools')
  }
  return { functions, choice: { name }, parallel }
}

/** @returns as {@link checkTools} */
export function toolsOf(
  {
    tools,
    tool_choice: choice,
    parallel_tool_calls: parallel,
  }: z.output<z.ZodObject<typeof toolFields>>,
  context: z.RefinementCtx,
): RunnerTools | undefined {
  const wanted = typeof choice === 'string' ? choice : choice.function
  return checkTools(tools, wanted, parallel, context, ['function'])
}
