/** Graders say how good an answer is: OpenAI's in OpenAI's shapes, and some of our own. */
import { z } from 'zod'

const MAX_TEMPLATE_CHARS = 8192
const MAX_URL_CHARS = 2048
const DEFAULT_HTTP_TIMEOUT_SECONDS = 10
const MAX_HTTP_TIMEOUT_SECONDS = 60
/** As many as a target may have. */
const MAX_GENERATED_TOKENS = 256
const DEFAULT_GENERATED_TOKENS = 64

/** The fields that a template may name, in double braces. */
export const TEMPLATE_FIELDS = ['sample.output_text', 'item.input', 'item.target'] as const
export type TemplateField = (typeof TEMPLATE_FIELDS)[number]
export const TEMPLATE_PATTERN = /\{\{\s*([^{}]*?)\s*\}\}/g

const templateSchema = z
  .string()
  .max(MAX_TEMPLATE_CHARS)
  .superRefine((template, context) => {
    for (const [, name] of template.matchAll(TEMPLATE_PATTERN)) {
      if ((TEMPLATE_FIELDS as readonly (string | undefined)[]).includes(name)) continue
      context.addIssue({
        code: 'custom',
        message: `names the unknown field "${name ?? ''}"; the fields are ${TEMPLATE_FIELDS.join(', ')}`,
      })
    }
  })
const OUTPUT = '{{sample.output_text}}'
/** OpenAI's graders have names. Nothing here uses them. */
const nameSchema = z.string().max(256).optional()

const METRICS = [
  'fuzzy_match',
  'gleu',
  'rouge_1',
  'rouge_2',
  'rouge_3',
  'rouge_4',
  'rouge_5',
  'rouge_l',
] as const

export const textGraderSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('string_check'),
    name: nameSchema,
    input: templateSchema.default(OUTPUT),
    reference: templateSchema,
    operation: z.enum(['eq', 'ne', 'like', 'ilike']),
  }),
  z.strictObject({
    type: z.literal('text_similarity'),
    name: nameSchema,
    input: templateSchema.default(OUTPUT),
    reference: templateSchema,
    evaluation_metric: z.enum(METRICS, {
      error: (issue) => `must be one of ${METRICS.join(', ')}, not ${JSON.stringify(issue.input)}`,
    }),
  }),
  /** Scores by the probability that another task of the project gives a label. */
  z.strictObject({
    type: z.literal('task'),
    name: nameSchema,
    input: templateSchema.default(OUTPUT),
    /** A name, or `name@version`. */
    task: z.string().min(1).max(256),
    label: z.string().min(1),
  }),
  /** Is asked by POST with `{input, output, target}` and answers `{score}`; higher is better. */
  z.strictObject({
    type: z.literal('http'),
    name: nameSchema,
    url: z.url({ protocol: /^https?$/ }).max(MAX_URL_CHARS),
    timeout_seconds: z
      .number()
      .gt(0)
      .max(MAX_HTTP_TIMEOUT_SECONDS)
      .default(DEFAULT_HTTP_TIMEOUT_SECONDS),
  }),
])
/** A grader of generated texts. */
export type TextGrader = z.output<typeof textGraderSchema>

/** `label` and `target` score by the model's own probabilities and generate nothing. */
export const graderSchema = z.union([
  z.strictObject({ type: z.enum(['label', 'target']) }),
  textGraderSchema,
])
export type Grader = z.output<typeof graderSchema>

export const isTextGrader = (grader: Grader | null | undefined): grader is TextGrader =>
  grader != null && grader.type !== 'label' && grader.type !== 'target'

/** How the model draws the texts that are graded. Their seeds follow from the job's. */
export const generationSchema = z.strictObject({
  max_tokens: z.int().min(1).max(MAX_GENERATED_TOKENS).default(DEFAULT_GENERATED_TOKENS),
  temperature: z.number().min(0).max(2).default(1),
})
export type GenerationOptions = z.output<typeof generationSchema>
