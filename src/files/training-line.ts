import { z } from 'zod'
import { fail, ok, type Result } from '../../adapters/result.ts'
import { textContentSchema } from '../protocol/openai/content.ts'
import { labelTextSchema } from '../protocol/openai/label-text.ts'
import { MAX_MESSAGES, participantNameSchema } from '../protocol/openai/messages.ts'
import { formatPath } from '../protocol/parse.ts'
import { MAX_LABEL_CHARS, type PromptMessage } from '../protocol/runner.ts'

/** A runner takes 256 tokens of a target, which have fewer characters than this. */
const MAX_TARGET_CHARS = 8192

/**
 * What a line holds: a label, a target text, or a pair of texts of which one is preferred. The last
 * `message` of a chat may be a label or a target. With `none` the answer is generated and graded.
 */
export type AnswerKind = 'label' | 'target' | 'pair' | 'message' | 'none'

/** One line of a training file: a conversation and the answer it should have. */
export type TrainingExample = {
  readonly kind: AnswerKind
  /** The line's system message, which becomes the instructions of a job that has none. */
  readonly system: string | null
  /** The messages before the answer, without the system message. */
  readonly messages: readonly PromptMessage[]
  /** The preferred text of a pair; empty if the line has no answer. */
  readonly answer: string
  /** Only a pair has this. */
  readonly rejected?: string
  /** What the line's writer may not expect; absent if there is nothing to note. */
  readonly notes?: readonly LineNote[]
}

/**
 * `earlier_answers`: answers before the last one have `weight: 1`, but are only context here.
 * `label_not_text`: the label is a JSON number or boolean, and stands for its text.
 */
export type LineNote = 'earlier_answers' | 'label_not_text'

export type TrainingLineError = {
  readonly reason: 'not_json' | 'not_an_example'
  readonly message: string
}

/** A field that must be empty, because the job would ignore what it holds. */
const emptyOnly = (why: string) => z.custom<undefined>(() => false, why).optional()
const NO_CALLS = 'calls of functions are not learnt'
const NO_TOOLS = 'a task does not learn to use functions'
const ROLES = ['system', 'developer', 'user', 'assistant'] as const
const TOOL_ROLES: readonly unknown[] = ['tool', 'function']

const lineMessageSchema = z.strictObject({
  role: z.enum(ROLES, {
    error: ({ input }) =>
      TOOL_ROLES.includes(input)
        ? `"${String(input)}": results of functions are not learnt`
        : 'must be one of system, user, assistant',
  }),
  content: textContentSchema,
  name: participantNameSchema.optional(),
  weight: z.union([z.literal(0), z.literal(1)], { error: 'must be 0 or 1' }).optional(),
  refusal: emptyOnly('refusals are not learnt'),
  tool_calls: emptyOnly(NO_CALLS),
  function_call: emptyOnly(NO_CALLS),
  audio: emptyOnly('audio is not learnt'),
})
type LineMessage = z.output<typeof lineMessageSchema>

const chatLineSchema = z.strictObject({
  messages: z
    .array(z.preprocess(readMessage, lineMessageSchema))
    .min(2, 'must hold at least a user message and the assistant’s answer')
    .max(MAX_MESSAGES, `must hold at most ${MAX_MESSAGES} messages`),
  tools: emptyOnly(NO_TOOLS),
  functions: emptyOnly(NO_TOOLS),
  // It says how calls are made, and there are none.
  parallel_tool_calls: z.boolean().optional(),
})

const isAbsent = (value: unknown): boolean =>
  value === null || (Array.isArray(value) && value.length === 0)

/** Exporters write every column of every line, with null or an empty list for nothing. */
const withoutAbsent = (value: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => !isAbsent(each)))

function readMessage(message: unknown): unknown {
  if (typeof message !== 'object' || message === null || Array.isArray(message)) return message
  const { content, ...rest } = message as Readonly<Record<string, unknown>>
  const others = Object.entries(withoutAbsent(rest)).filter(([, value]) => value !== '')
  // An assistant's turn has no content if it only called functions, or was withheld.
  const isSilent = content === null && rest['role'] === 'assistant'
  return { ...Object.fromEntries(others), content: isSilent ? '' : content }
}

const ANSWER_FIELDS = ['label', 'target', 'preferred', 'rejected'] as const

/** Drops an empty label or target beside another answer. Alone it stays, and is refused. */
function readLine(value: object): Record<string, unknown> {
  const line = withoutAbsent(value)
  const isAnswered = ANSWER_FIELDS.some((field) => field in line && line[field] !== '')
  const isBlank = (field: string) => isAnswered && line[field] === ''
  return Object.fromEntries(
    Object.entries(line).filter(
      ([field]) => !((field === 'label' || field === 'target') && isBlank(field)),
    ),
  )
}

const labelledLineSchema = z.strictObject({
  input: z.string().min(1, 'must not be empty'),
  label: labelTextSchema.pipe(
    z
      .string()
      .min(1, 'must not be empty')
      .max(MAX_LABEL_CHARS, `must have at most ${MAX_LABEL_CHARS} characters`),
  ),
})

const promptLineSchema = z.strictObject({ input: z.string().min(1, 'must not be empty') })

const targetTextSchema = z
  .string()
  .min(1, 'must not be empty')
  .max(MAX_TARGET_CHARS, `must have at most ${MAX_TARGET_CHARS} characters`)

const targetLineSchema = z.strictObject({
  input: z.string().min(1, 'must not be empty'),
  target: targetTextSchema,
})

const pairLineSchema = z.strictObject({
  input: z.string().min(1, 'must not be empty'),
  preferred: targetTextSchema,
  rejected: targetTextSchema,
})

/**
 * Reads one line: `{messages: […]}` ending in the assistant's answer, `{input, label}`,
 * `{input, target}`, `{input, preferred, rejected}` or `{input}`.
 */
export function parseTrainingLine(text: string): Result<TrainingExample, TrainingLineError> {
  let parsedJson: unknown
  try {
    parsedJson = JSON.parse(text)
  } catch {
    return fail({ reason: 'not_json', message: 'is not valid JSON' })
  }
  if (typeof parsedJson !== 'object' || parsedJson === null || Array.isArray(parsedJson)) {
    return bad('must be an object')
  }
  const value = readLine(parsedJson)
  if ('messages' in value) {
    const parsed = chatLineSchema.safeParse(value)
    return parsed.success ? toExample(parsed.data.messages) : bad(describe(parsed.error))
  }
  if ('label' in value && 'target' in value) return bad('must hold a label or a target, not both')
  if ('preferred' in value || 'rejected' in value) {
    const parsed = pairLineSchema.safeParse(value)
    return parsed.success ? toChoice(parsed.data) : bad(describe(parsed.error))
  }
  if ('target' in value) {
    const parsed = targetLineSchema.safeParse(value)
    if (!parsed.success) return bad(describe(parsed.error))
    return toPair('target', parsed.data.input, parsed.data.target)
  }
  if ('input' in value && !('label' in value)) {
    const parsed = promptLineSchema.safeParse(value)
    if (!parsed.success) return bad(describe(parsed.error))
    return toPair('none', parsed.data.input, '')
  }
  if ('input' in value || 'label' in value) {
    const parsed = labelledLineSchema.safeParse(value)
    if (!parsed.success) return bad(describe(parsed.error))
    const pair = toPair('label', parsed.data.input, parsed.data.label)
    if (!pair.ok || typeof value['label'] === 'string') return pair
    return ok({ ...pair.value, notes: ['label_not_text' as const] })
  }
  return bad('must hold "messages", or "input" and "label" or "target"')
}

function toChoice({ input, preferred, rejected }: z.infer<typeof pairLineSchema>) {
  if (preferred.trim() === '' || rejected.trim() === '') return bad('a text must not be blank')
  if (preferred.trim() === rejected.trim()) return bad('preferred and rejected are the same')
  const pair = toPair('pair', input, preferred)
  return pair.ok ? ok({ ...pair.value, rejected }) : pair
}

function toPair(kind: 'label' | 'target' | 'pair' | 'none', input: string, answer: string) {
  if (kind !== 'none' && answer.trim() === '') return bad(`${kind}: must not be blank`)
  return ok({ kind, system: null, messages: [{ role: 'user' as const, content: input }], answer })
}

/**
 * Reads a chat. Its answer is the last assistant message whose weight is not 0. What follows that
 * one is dropped, since the answer does not depend on it.
 */
function toExample(messages: readonly LineMessage[]): Result<TrainingExample, TrainingLineError> {
  const isSystem = ({ role }: LineMessage) => role === 'system' || role === 'developer'
  const weighted = messages.findIndex(
    ({ role, weight }) => weight !== undefined && role !== 'assistant',
  )
  if (weighted >= 0) {
    return bad(`messages[${weighted}].weight: is only allowed in assistant messages`)
  }
  if (messages.at(-1)?.role !== 'assistant') {
    return bad('messages: must end in the assistant’s answer')
  }
  if (messages.slice(1).some(isSystem)) {
    return bad('messages: only the first message may be a system message')
  }
  const at = messages.findLastIndex(({ role, weight }) => role === 'assistant' && weight !== 0)
  const last = messages[at]
  if (last === undefined) return bad('messages: every answer has weight 0, so none is learnt')
  if (last.content.trim() === '') return bad('messages: the assistant’s answer is blank')
  const [first, ...rest] = messages.slice(0, at)
  const hasSystem = first !== undefined && isSystem(first)
  const before = hasSystem || first === undefined ? rest : [first, ...rest]
  const prompt: PromptMessage[] = []
  for (const { role, content, name } of before) {
    if (role === 'user' || role === 'assistant') {
      prompt.push({ role, content, ...(name === undefined ? {} : { name }) })
    }
  }
  if (!prompt.some(({ role }) => role === 'user')) {
    return bad('messages: there is no user message before the answer')
  }
  const hasEarlier = before.some(({ weight }) => weight === 1)
  return ok({
    kind: 'message' as const,
    system: hasSystem ? first.content : null,
    messages: prompt,
    answer: last.content,
    ...(hasEarlier ? { notes: ['earlier_answers' as const] } : {}),
  })
}

const bad = (message: string) => fail({ reason: 'not_an_example' as const, message })

function describe(error: z.ZodError): string {
  const issue = error.issues[0]
  if (issue === undefined) return 'is malformed'
  if (issue.code === 'unrecognized_keys') return `unknown field "${issue.keys[0] ?? ''}"`
  return `${formatPath(issue.path)}: ${issue.message}`
}
