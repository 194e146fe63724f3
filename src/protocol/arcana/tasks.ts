import { z } from 'zod'
import { frameFields } from '../openai/fine-tuning.ts'
import { versionWords } from '../openai/version-words.ts'
import type { AnyReport } from '../openai/text-report.ts'
import { pageQuerySchema } from '../openai/files.ts'
import { MAX_LABELS, type Scope } from '../runner.ts'

const DEFAULT_PAGE = 100
const MAX_PAGE = 1000
/** `after` is a task's name, which orders the list. */
export const taskPageSchema = pageQuerySchema(DEFAULT_PAGE, MAX_PAGE, 'asc')

const DEFAULT_VERSIONS_PAGE = 20
/** `after` is a version's id; `tag` lists only versions that have it. */
export const versionPageSchema = pageQuerySchema(DEFAULT_VERSIONS_PAGE, MAX_PAGE).extend({
  tag: z.string().min(1).optional(),
})

export const promoteSchema = z.strictObject({
  version: z.int().min(1),
  /**
   * The version that the caller believes to be live. If another one is, the promotion is refused.
   */
  expected_live: z.int().min(1).nullable(),
})

/** Makes the version live again that was live before. */
export const rollbackSchema = z.strictObject({ expected_live: z.int().min(1) })

/** Changes the tags and notes of a version; what is left out stays. */
export const updateVersionSchema = z.strictObject(versionWords)

const MAX_GRACE_SECONDS = 366 * 24 * 3600

/** `grace_seconds: null` takes a retirement back. */
export const retireSchema = z.strictObject({
  grace_seconds: z.int().min(0).max(MAX_GRACE_SECONDS).nullable(),
})

/** `arcana`: the adapter file itself. `peft`: a zipped folder such as PEFT's OFT saves. */
export const adapterFormatSchema = z.enum(['arcana', 'peft'])
export type AdapterFormat = z.output<typeof adapterFormatSchema>

/** A larger bias would decide alone, whatever the model says. */
const MAX_ABS_BIAS = 100

/** What an uploaded adapter does not hold: its task's frame and labels. */
export const uploadedVersionSchema = z
  .strictObject({
    /** Required with `peft`, whose files do not name the base model's digest. */
    model: z.string().min(1).nullish(),
    ...frameFields,
    ...versionWords,
    /** Added to the labels' log probabilities, in their order. */
    bias: z.array(z.number().min(-MAX_ABS_BIAS).max(MAX_ABS_BIAS)).max(MAX_LABELS).nullish(),
  })
  .refine(({ labels, bias }) => bias == null || bias.length === labels?.length, {
    path: ['bias'],
    message: 'must have one number a label',
  })
export type UploadedVersion = z.output<typeof uploadedVersionSchema>

export type Task = {
  readonly object: 'arcana.task'
  readonly id: string
  readonly name: string
  /** The base model that the task belongs to. */
  readonly model: string
  readonly live_version: number | null
  /** A request whose `model` is this uses the task. */
  readonly fine_tuned_model: string
  /** Unix seconds. */
  readonly created_at: number
  readonly updated_at: number
}

export type TaskVersion = {
  readonly object: 'arcana.task.version'
  readonly id: string
  readonly task: string
  readonly version: number
  readonly is_live: boolean
  readonly digest: string
  readonly model: string
  readonly model_digest: string
  /** Null if the version is a label bias alone. */
  readonly adapter_digest: string | null
  readonly scope: Scope
  readonly layers: readonly number[]
  readonly instructions: string | null
  readonly position: 'before' | 'after'
  readonly labels: readonly string[] | null
  readonly bias: readonly number[] | null
  readonly temperature: number | null
  readonly min_confidence: number | null
  readonly fallback_label: string | null
  /** `import-…` for an uploaded version. */
  readonly job: string
  readonly created_at: number
  /** When the stored adapter was found damaged, in Unix seconds; null while it is sound. */
  readonly corrupt_at: number | null
  /** When the version stops to answer, in Unix seconds; null while it is not retired. */
  readonly retires_at: number | null
  readonly tags: readonly string[]
  readonly notes: string | null
  /** Absent in lists. */
  readonly report?: AnyReport | null
}

export type TaskWithVersions = Task & {
  /** The newest ones, newest first; `GET …/versions` lists all. */
  readonly versions: readonly TaskVersion[]
  readonly has_more_versions: boolean
}
