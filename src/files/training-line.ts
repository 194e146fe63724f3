import { z } from 'zod'
import { fail, ok, type Result } from '../../adapters/result.ts'
import { textContentSchema } from '../protocol/openai/content.ts'
import { MAX_MESSAGES } from '../protocol/openai/messages.ts'
import { formatPath } from '../protocol/parse.ts'
import { MAX_LABEL_CHARS, type PromptMessage } from '../protocol/runner.ts'

/** Characters of a target; a runner takes 256 tokens of it, which are fewer. */
export const MAX_TARGET_CHARS = 8192

/**
 * What a line calls its answer: one of the task's labels, or a text to be generated. A chat's last
 * message may be either. `none` leaves the answer to be generated and graded.
 */
export type AnswerKind = 'label' | 'target' | 'pair' | 'message' | 'none'

/** One line of a training file: a conversation and the answer it should have. */
export type TrainingExample = {
  readonly kind: AnswerKind
  /** The file's own system message, which a job without instructions takes as its frame. */
  readonly system: string | null
  /** Without the system message; ends in what is answered. */
  readonly messages: readonly PromptMessage[]
  /** Empty where there is none; of a pair the preferred one. */
  readonly answer: string
  /** Of a pair alone. */
  readonly rejected?: string
}

export type TrainingLineError = {
  readonly reason: 'not_json' | 'not_an_example'
  readonly message: string
}

const chatLineSchema = z.strictObject({
  messages: z
    .array(
      z.strictObject({
        role: z.enum(['system', 'developer', 'user', 'assistant'], {
          error: 'must be one of system, user, assistant',
        }),
        content: textContentSchema,
      }),
    )
    .min(2, 'must hold at least a user message and the assistant’s answer')
    .max(MAX_MESSAGES, `must hold at most ${MAX_MESSAGES} messages`),
})

const labelledLineSchema = z.strictObject({
  input: z.string().min(1, 'must not be empty'),
  label: z
    .string()
    .min(1, 'must not be empty')
    .max(MAX_LABEL_CHARS, `must have at most ${MAX_LABEL_CHARS} characters`),
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
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return fail({ reason: 'not_json', message: 'is not valid JSON' })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return bad('must be an object')
  }
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
    return toPair('label', parsed.data.input, parsed.data.label)
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

function toExample(
  messages: z.infer<typeof chatLineSchema>['messages'],
): Result<TrainingExample, TrainingLineError> {
  const isSystem = (role: string) => role === 'system' || role === 'developer'
  const last = messages.at(-1)
  if (last?.role !== 'assistant') return bad('messages: must end in the assistant’s answer')
  if (last.content.trim() === '') return bad('messages: the assistant’s answer is blank')
  if (messages.slice(1).some(({ role }) => isSystem(role))) {
    return bad('messages: a system message may only stand first')
  }
  const [first, ...rest] = messages
  const hasSystem = first !== undefined && isSystem(first.role)
  const prompt: PromptMessage[] = []
  for (const { role, content } of (hasSystem ? rest : messages).slice(0, -1)) {
    if (role === 'user' || role === 'assistant') prompt.push({ role, content })
  }
  if (!prompt.some(({ role }) => role === 'user')) {
    return bad('messages: there is no user message before the answer')
  }
  return ok({
    kind: 'message' as const,
    system: hasSystem ? first.content : null,
    messages: prompt,
    answer: last.content,
  })
}

const bad = (message: string) => fail({ reason: 'not_an_example' as const, message })

function describe(error: z.ZodError): string {
  const issue = error.issues[0]
  if (issue === undefined) return 'is malformed'
  if (issue.code === 'unrecognized_keys') return `unknown field "${issue.keys[0] ?? ''}"`
  return `${formatPath(issue.path)}: ${issue.message}`
}
