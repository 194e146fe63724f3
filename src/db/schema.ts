/** D1 tables. Every row belongs to a project. A job's trials and state are in its Durable Object. */
import {
  index,
  integer,
  primaryKey,
  real,
  sqliteTable,
  text,
  uniqueIndex,
} from 'drizzle-orm/sqlite-core'
import type { Limits } from '../protocol/limits.ts'
import type { KeyScope } from '../protocol/key-scopes.ts'
import type { Scope } from '../protocol/runner.ts'

export type FramePosition = 'before' | 'after'

/** Who runs projects; all of one organisation's admin keys see all of its projects, and no others. */
export const organizations = sqliteTable('organizations', {
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  createdAtMs: integer('created_at_ms').notNull(),
})

export const projects = sqliteTable(
  'projects',
  {
    id: text('id').primaryKey(),
    organizationId: text('organization_id')
      .notNull()
      .references(() => organizations.id),
    name: text('name').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    /** From then on none of its keys works; its rows stay. */
    archivedAtMs: integer('archived_at_ms'),
    limits: text('limits', { mode: 'json' }).$type<Limits>().notNull().default({}),
  },
  (t) => [index('projects_by_time').on(t.organizationId, t.createdAtMs, t.id)],
)

export const keys = sqliteTable(
  'keys',
  {
    /** SHA-256 of the key's UTF-8 bytes, lower-case hex: the key itself is never stored. */
    hash: text('hash').primaryKey(),
    id: text('id').notNull(),
    organizationId: text('organization_id')
      .notNull()
      .references(() => organizations.id),
    /** Null: a key for the organisation's administration alone. */
    projectId: text('project_id').references(() => projects.id),
    name: text('name').notNull(),
    /** The key's first characters, by which its owner knows it; empty where they were never told. */
    prefix: text('prefix').notNull(),
    scopes: text('scopes', { mode: 'json' }).$type<readonly KeyScope[]>().notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    /** Exact to a minute. */
    lastUsedAtMs: integer('last_used_at_ms'),
    expiresAtMs: integer('expires_at_ms'),
    revokedAtMs: integer('revoked_at_ms'),
    /** Beside those of its project. */
    limits: text('limits', { mode: 'json' }).$type<Limits>().notNull().default({}),
  },
  (t) => [
    uniqueIndex('keys_id').on(t.id),
    index('keys_by_time').on(t.organizationId, t.projectId, t.createdAtMs, t.id),
  ],
)

export const tasks = sqliteTable(
  'tasks',
  {
    projectId: text('project_id').notNull(),
    name: text('name').notNull(),
    /** The slug of the base model that the task belongs to. All its versions are of this model. */
    model: text('model').notNull().default(''),
    /** Null while the task is deleted, and until one of its versions goes live. */
    liveVersion: integer('live_version'),
    /**
     * Versions up to this number belong to a deleted task of the same name. A number is never used
     * again, so a version's content may be cached forever.
     */
    retiredThrough: integer('retired_through').notNull().default(0),
    /** Rises when a version of the task changes in a way that requests must see: it is retired, or not. */
    revision: integer('revision').notNull().default(0),
    createdAtMs: integer('created_at_ms').notNull(),
    updatedAtMs: integer('updated_at_ms').notNull(),
    deletedAtMs: integer('deleted_at_ms'),
  },
  (t) => [primaryKey({ columns: [t.projectId, t.name] })],
)

export const versions = sqliteTable(
  'versions',
  {
    projectId: text('project_id').notNull(),
    task: text('task').notNull(),
    number: integer('number').notNull(),
    /** `digestOfVersion` in `tasks/version-content.ts` says what it covers. */
    digest: text('digest').notNull(),
    model: text('model').notNull(),
    modelDigest: text('model_digest').notNull(),
    /** Null where the version is a label bias alone. */
    adapterDigest: text('adapter_digest'),
    scope: text('scope').$type<Scope>().notNull(),
    layers: text('layers', { mode: 'json' }).$type<readonly number[]>().notNull(),
    instructions: text('instructions'),
    position: text('position').$type<FramePosition>().notNull(),
    labels: text('labels', { mode: 'json' }).$type<readonly string[]>(),
    /** Added to the labels' log probabilities, in their order. */
    bias: text('bias', { mode: 'json' }).$type<readonly number[]>(),
    /** Divides the labels' biased log probabilities; null means 1. */
    temperature: real('temperature'),
    /** The task withholds a less probable answer; null means that it withholds none. */
    minConfidence: real('min_confidence'),
    /** Replaces an answer that is withheld; null means that nothing does. */
    fallbackLabel: text('fallback_label'),
    /** R2 key of the report. */
    reportKey: text('report_key').notNull(),
    /**
     * Unique, so that a step that a crash repeats finds its own row. For a checkpoint it is the job's
     * id, a slash and the checkpoint's number; for an upload it begins with `import-`.
     */
    jobId: text('job_id').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    /** When the stored adapter was found damaged; null while it is sound. */
    corruptAtMs: integer('corrupt_at_ms'),
    /** Its owner's words for the version, which lists can be filtered by; null means none. */
    tags: text('tags', { mode: 'json' }).$type<readonly string[]>(),
    notes: text('notes'),
    /** From then on the version answers no request; null for a version that is not retired. */
    retiresAtMs: integer('retires_at_ms'),
  },
  (t) => [
    primaryKey({ columns: [t.projectId, t.task, t.number] }),
    uniqueIndex('versions_job_id').on(t.jobId),
  ],
)

/** Each time that a version of a task went live. */
export const promotions = sqliteTable(
  'promotions',
  {
    projectId: text('project_id').notNull(),
    task: text('task').notNull(),
    /** Counts the task's promotions from 1; the last one is in force. */
    sequence: integer('sequence').notNull(),
    version: integer('version').notNull(),
    /**
     * The promotion that a rollback of this one goes back to. A rollback takes over the one before that,
     * so that rollbacks in a row go further back. Null where nothing was live before.
     */
    previous: integer('previous'),
    cause: text('cause').$type<'publish' | 'promote' | 'rollback'>().notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (t) => [primaryKey({ columns: [t.projectId, t.task, t.sequence] })],
)

export const files = sqliteTable(
  'files',
  {
    projectId: text('project_id').notNull(),
    id: text('id').notNull(),
    filename: text('filename').notNull(),
    purpose: text('purpose').notNull(),
    sizeBytes: integer('size_bytes').notNull(),
    numExamples: integer('num_examples').notNull(),
    blobKey: text('blob_key').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.projectId, t.id] }),
    index('files_by_time').on(t.projectId, t.createdAtMs, t.id),
  ],
)

/** Copies of jobs for lists. The truth about a job is in its Durable Object. */
export const jobs = sqliteTable(
  'jobs',
  {
    projectId: text('project_id').notNull(),
    id: text('id').notNull(),
    status: text('status').notNull(),
    /** The job as its owner sees it (protocol/openai/fine-tuning), JSON. */
    object: text('object').notNull(),
    /** Rises with every change, so that a late copy never overwrites a newer one. */
    revision: integer('revision').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.projectId, t.id] }),
    index('jobs_by_time').on(t.projectId, t.createdAtMs, t.id),
  ],
)

/** Copies of batches for lists. The truth about a batch is in its Durable Object. */
export const batches = sqliteTable(
  'batches',
  {
    projectId: text('project_id').notNull(),
    id: text('id').notNull(),
    /** The batch as its owner sees it (protocol/openai/batches), JSON. */
    object: text('object').notNull(),
    /** Rises with every change, so that a late copy never overwrites a newer one. */
    revision: integer('revision').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.projectId, t.id] }),
    index('batches_by_time').on(t.projectId, t.createdAtMs, t.id),
  ],
)

/** Labelled files that were answered under several selections. */
export const experiments = sqliteTable(
  'experiments',
  {
    projectId: text('project_id').notNull(),
    id: text('id').notNull(),
    /** The experiment as lists have it (protocol/arcana/experiment), JSON. */
    summary: text('summary').notNull(),
    /** Its rows: lines, labels and answers, without the inputs, JSON. */
    rows: text('rows').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.projectId, t.id] }),
    index('experiments_by_time').on(t.projectId, t.createdAtMs, t.id),
  ],
)

/** One row for each request that was answered before usage was rolled up, and for a batch's. */
export const usage = sqliteTable(
  'usage',
  {
    requestId: text('request_id').primaryKey(),
    projectId: text('project_id').notNull(),
    /** Null before November 2026, when keys had no id. */
    keyId: text('key_id'),
    createdAtMs: integer('created_at_ms').notNull(),
    route: text('route').notNull(),
    model: text('model').notNull(),
    selection: text('selection'),
    runnerId: text('runner_id').notNull(),
    promptTokens: integer('prompt_tokens').notNull(),
    /** Of the prompt's, those whose KV was computed already. */
    cachedTokens: integer('cached_tokens').notNull().default(0),
    completionTokens: integer('completion_tokens').notNull(),
  },
  (t) => [index('usage_by_time').on(t.projectId, t.createdAtMs)],
)

/** What a project's requests used by minute, rolled up from its limits' object. */
export const usageMinutes = sqliteTable(
  'usage_minutes',
  {
    /** Rolled up together; never again under the same name. */
    batch: text('batch').notNull(),
    projectId: text('project_id').notNull(),
    /** The minute's beginning. */
    minuteMs: integer('minute_ms').notNull(),
    /** Empty for none. */
    keyId: text('key_id').notNull(),
    route: text('route').notNull(),
    model: text('model').notNull(),
    numRequests: integer('num_requests').notNull(),
    promptTokens: integer('prompt_tokens').notNull(),
    cachedTokens: integer('cached_tokens').notNull(),
    completionTokens: integer('completion_tokens').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.batch, t.minuteMs, t.keyId, t.route, t.model] }),
    index('usage_minutes_by_time').on(t.projectId, t.minuteMs),
  ],
)
