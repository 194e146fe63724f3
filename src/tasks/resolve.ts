import { findTask, type TaskRow } from '../db/tasks.ts'
import { findVersion, findVersionsByDigest, listVersions, type Version } from '../db/versions.ts'
import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import { TtlCache } from '../ttl-cache.ts'
import { composeTerms, type ResolvedSelection, type ResolvedTerm } from './compose.ts'
import { formatSelection, isDigestRef, parseSelection, type SelectionTerm } from './selection.ts'

/**
 * When a task's live version changes, or one of its versions is retired, every isolate knows after this
 * time at the latest.
 */
const NAME_TTL_MS = 2_000
const MAX_CACHED_NAMES = 4096
/** What requests see of a version changes only with its task's revision, so this only bounds the memory. */
const VERSION_TTL_MS = 600_000
const MAX_CACHED_VERSIONS = 1024

type LiveName = Pick<TaskRow, 'projectId' | 'name' | 'liveVersion' | 'retiredThrough' | 'revision'>

// All requests of an isolate share the caches, so that one that changes a task can call
// `forgetTask`.
const names = new TtlCache<LiveName>(NAME_TTL_MS, MAX_CACHED_NAMES)
const versions = new TtlCache<Version>(VERSION_TTL_MS, MAX_CACHED_VERSIONS)
const digests = new TtlCache<Version>(NAME_TTL_MS, MAX_CACHED_VERSIONS)

const nameKey = (projectId: string, name: string) => `${projectId}/${name}`

/** Forgets which version of a task is live, because that has just changed. */
export function forgetTask(projectId: string, name: string): void {
  names.delete(nameKey(projectId, name))
}

/** @throws {ApiError} 400 naming the field the selection came from */
export function readSelection(text: string, param: string): readonly SelectionTerm[] {
  const parsed = parseSelection(text)
  if (!parsed.ok) throw invalidRequest(`Invalid task selection: ${parsed.error.message}.`, param)
  return parsed.value
}

/**
 * Finds the versions that a selection names, and composes them.
 * @throws {ApiError} 404 `model_not_found` for an unknown task or version; 400 if the terms do not
 * go together or were learnt on another base model
 */
export async function resolveSelection(
  db: D1Database,
  projectId: string,
  baseModel: string,
  terms: readonly SelectionTerm[],
  param: string,
): Promise<ResolvedSelection> {
  const resolved: ResolvedTerm[] = []
  for (const term of terms) {
    resolved.push({ term, version: await resolveTerm(db, projectId, term, param) })
  }
  const composed = composeTerms(resolved)
  if (!composed.ok) {
    throw invalidRequest(
      `The selection "${formatSelection(terms)}" cannot be applied: ${composed.error.message}.`,
      param,
      composed.error.reason,
    )
  }
  if (composed.value.model !== baseModel) {
    throw invalidRequest(
      `The task "${composed.value.expression}" was learnt on ${composed.value.model}; ` +
        `it cannot be applied to ${baseModel}.`,
      param,
      'adapter_wrong_model',
    )
  }
  return composed.value
}

async function resolveTerm(
  db: D1Database,
  projectId: string,
  term: SelectionTerm,
  param: string,
): Promise<Version> {
  const live = await resolveName(db, projectId, term.name)
  if (live === null) throw unknownTask(`The task "${term.name}" does not exist.`, param)
  const wanted = term.version ?? live.liveVersion
  if (wanted === null) throw unknownTask(await describeCandidate(db, live), param)
  const version = isDigestRef(wanted)
    ? await resolveDigest(db, live, wanted, param)
    : wanted > live.retiredThrough
      ? await resolveVersion(db, live, wanted)
      : null
  if (version === null)
    throw unknownTask(`The task "${term.name}" has no version ${wanted}.`, param)
  const { retiresAtMs, number } = version
  if (retiresAtMs !== null && retiresAtMs <= Date.now()) {
    throw new ApiError(
      404,
      `Version ${number} of the task "${term.name}" was retired on ${new Date(retiresAtMs).toISOString()}.`,
      { param, code: 'version_retired' },
    )
  }
  return version
}

/** Says that no version of a task is live, and how to ask for the newest one. */
async function describeCandidate(db: D1Database, live: LiveName): Promise<string> {
  const { name } = live
  const [newest] = await listVersions(db, live, { limit: 1, order: 'desc' })
  const told = `The task "${name}" has no live version yet`
  return newest === undefined
    ? `${told}.`
    : `${told}; "${name}@${newest.number}" is its newest candidate. Ask for it by that name, or make ` +
        `it live: POST /v1/tasks/${name}/promote with {"version": ${newest.number}, "expected_live": null}.`
}

const unknownTask = (message: string, param: string) =>
  new ApiError(404, message, { param, code: 'model_not_found' })

async function resolveName(
  db: D1Database,
  projectId: string,
  name: string,
): Promise<LiveName | null> {
  const key = nameKey(projectId, name)
  const known = names.get(key)
  if (known !== undefined) return known
  const row = await findTask(db, projectId, name)
  if (row === null) return null
  const { liveVersion, retiredThrough, revision } = row
  const found = { projectId, name, liveVersion, retiredThrough, revision }
  names.set(key, found)
  return found
}

async function resolveVersion(
  db: D1Database,
  { projectId, name, revision }: LiveName,
  number: number,
): Promise<Version | null> {
  const key = `${nameKey(projectId, name)}@${number}/${revision}`
  const known = versions.get(key)
  if (known !== undefined) return known
  const found = await findVersion(db, projectId, name, number)
  if (found !== null) versions.set(key, found)
  return found
}

/** @throws {ApiError} 400 `ambiguous_digest` */
async function resolveDigest(
  db: D1Database,
  live: LiveName,
  ref: `sha256:${string}`,
  param: string,
): Promise<Version | null> {
  // A new version may have the same beginning, so that it would be ambiguous: this cache is a name's.
  const key = `${nameKey(live.projectId, live.name)}@${ref}/${live.revision}`
  const known = digests.get(key)
  if (known !== undefined) return known
  const [found, other] = await findVersionsByDigest(db, live, ref.slice('sha256:'.length))
  if (found === undefined) return null
  if (other !== undefined) {
    throw invalidRequest(
      `Versions ${found.number} and ${other.number} of the task "${live.name}" both have digests that ` +
        `begin with ${ref}; write more of the digest.`,
      param,
      'ambiguous_digest',
    )
  }
  digests.set(key, found)
  return found
}
