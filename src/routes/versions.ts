import { hexId } from '../protocol/openai/hex-id.ts'
import { Hono, type Context } from 'hono'
import { touchedLayers } from '../../adapters/rotation/rotation.ts'
import type { AppEnv } from '../context.ts'
import type { TaskRow } from '../db/tasks.ts'
import {
  findVersion,
  listVersions,
  publishVersion,
  updateVersion,
  type NewVersion,
  type Version,
} from '../db/versions.ts'
import type { Config } from '../env.ts'
import { servedModel } from '../dispatch/served-model.ts'
import { readJsonObject } from '../http/read-json.ts'
import {
  adapterFormatSchema,
  retireSchema,
  updateVersionSchema,
  versionPageSchema,
  type TaskVersion,
} from '../protocol/arcana/tasks.ts'
import { invalidField, invalidRequest } from '../protocol/openai/error.ts'
import { toPage, type Page } from '../protocol/openai/files.ts'
import { parseWire } from '../protocol/parse.ts'
import { servicesOf } from '../services.ts'
import { adapterKey, reportKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { readUploadedAdapter, toPeftZip } from '../tasks/adapter-exchange.ts'
import { receiveAdapter, type AdapterUpload } from '../tasks/adapter-upload.ts'
import { defaultModel, modelNotFound, servedModels } from '../tasks/requested-model.ts'
import { forgetTask } from '../tasks/resolve.ts'
import { BASE_NAME, TASK_NAME_PATTERN } from '../tasks/selection.ts'
import { readAdapter } from '../tasks/stored-adapter.ts'
import { digestOfVersion } from '../tasks/version-content.ts'
import { noVersion, readReport, requireTask, toVersion } from './tasks.ts'

const ZIP = 'application/zip'

/** A task's versions: shown, noted on, retired, downloaded and uploaded. */
export const versions = new Hono<AppEnv>()
  .get('/:name/versions', async (c) => {
    const { limit, order, after: afterId, tag } = parseWire(versionPageSchema, c.req.query())
    const task = await requireTask(c.env.DB, c.get('projectId'), c.req.param('name'))
    const after = afterId === undefined ? undefined : numberOfId(task.name, afterId)
    const rows = await listVersions(c.env.DB, task, { limit, order, after }, tag)
    const shown = rows.map((row) => toVersion(row, task))
    return c.json(toPage(shown, limit) satisfies Page<TaskVersion>)
  })
  .get('/:name/versions/:version', async (c) => {
    const { task, version } = await requireVersion(
      c.env.DB,
      c.get('projectId'),
      c.req.param('name'),
      c.req.param('version'),
    )
    return c.json(toVersion(version, task, await readReport(c.env.BLOBS, version.reportKey)))
  })
  .post('/:name/versions/:version', async (c) => {
    const body = parseWire(updateVersionSchema, await readJsonObject(c.req.raw))
    const { tags, notes } = body
    const change = {
      ...(tags === undefined ? {} : { tags }),
      ...(notes === undefined ? {} : { notes }),
    }
    return c.json(await changeVersion(c, change))
  })
  .post('/:name/versions/:version/retire', async (c) => {
    const body = parseWire(retireSchema, await readJsonObject(c.req.raw))
    const graceMs = body.grace_seconds === null ? null : 1000 * body.grace_seconds
    return c.json(
      await changeVersion(c, { retiresAtMs: graceMs === null ? null : Date.now() + graceMs }),
    )
  })
  .get('/:name/versions/:version/adapter', async (c) => {
    const projectId = c.get('projectId')
    const format = parseWire(adapterFormatSchema, c.req.query('format') ?? 'arcana', 'format')
    const { version } = await requireVersion(
      c.env.DB,
      projectId,
      c.req.param('name'),
      c.req.param('version'),
    )
    const { adapterDigest } = version
    if (adapterDigest === null) {
      throw invalidRequest(
        `${version.task}@${version.number} is a label bias alone: it has no adapter.`,
        null,
        'no_adapter',
      )
    }
    const bytes = await readAdapter(c.env, projectId, adapterDigest)
    const name = `${version.task}-${version.number}`
    return format === 'peft'
      ? sendFile(toPeftZip(bytes, version.model), `${name}-peft.zip`, adapterDigest, ZIP)
      : sendFile(bytes, `${name}.safetensors`, adapterDigest, 'application/octet-stream')
  })
  .post('/:name/versions', async (c) => {
    const projectId = c.get('projectId')
    const { config, runners } = servicesOf(c.env)
    const name = c.req.param('name')
    if (!TASK_NAME_PATTERN.test(name) || name === BASE_NAME) {
      throw invalidRequest(
        `A task's name must match ${TASK_NAME_PATTERN.source} and not be "${BASE_NAME}".`,
        'name',
      )
    }
    const upload = await receiveAdapter(c.req.raw)
    const slug = modelOf(upload, config)
    const model = await servedModel(runners, slug)
    const { file, bytes } = await readUploadedAdapter(upload.bytes, upload.format, {
      slug,
      modelDigest: model.model_digest,
      geometry: {
        numLayers: model.num_layers,
        numHeads: model.num_heads,
        headDim: model.head_dim,
      },
    })
    const layers = touchedLayers(file.rotation)
    const { instructions, position, labels, bias, tags, notes } = upload.version
    if (layers.length === 0 && bias == null) {
      throw invalidField('file', 'it rotates nothing, and the request has no bias')
    }
    const content = {
      model: slug,
      modelDigest: model.model_digest,
      adapterDigest: await sha256Hex(bytes),
      scope: file.scope,
      layers,
      instructions: instructions ?? null,
      position,
      labels: labels ?? null,
      bias: bias ?? null,
      temperature: null,
      minConfidence: null,
      fallbackLabel: null,
    }
    const id = `import-${hexId()}`
    const created: NewVersion = {
      ...content,
      projectId,
      task: name,
      digest: await digestOfVersion(content),
      reportKey: reportKey(projectId, id),
      jobId: id,
      createdAtMs: Date.now(),
      tags: tags ?? null,
      notes: notes ?? null,
    }
    await c.env.BLOBS.put(adapterKey(projectId, content.adapterDigest), bytes)
    const number = await publishVersion(c.env.DB, created)
    forgetTask(projectId, name)
    const task = await requireTask(c.env.DB, projectId, name)
    const row = await findVersion(c.env.DB, projectId, name, number)
    if (row === null) throw noVersion(name, String(number))
    return c.json(toVersion(row, task, null))
  })

async function requireVersion(
  db: D1Database,
  projectId: string,
  name: string,
  text: string,
): Promise<{ readonly task: TaskRow; readonly version: Version }> {
  const task = await requireTask(db, projectId, name)
  const version = NUMBER_PATTERN.test(text)
    ? await findVersion(db, projectId, name, Number(text))
    : null
  if (version === null || version.number <= task.retiredThrough) throw noVersion(name, text)
  return { task, version }
}

const NUMBER_PATTERN = /^[1-9][0-9]{0,8}$/

/**
 * The number in a version's id, which is `TASK@NUMBER`.
 * @throws {ApiError} 400: the id is not one of the task's versions
 */
function numberOfId(task: string, id: string): number {
  const number = id.startsWith(`${task}@`) ? id.slice(task.length + 1) : ''
  if (!NUMBER_PATTERN.test(number)) throw invalidRequest('No such version to list after.', 'after')
  return Number(number)
}

/** @returns the version as it is after the change, without its report */
async function changeVersion(
  c: Context<AppEnv>,
  change: Parameters<typeof updateVersion>[3],
): Promise<TaskVersion> {
  const [name, text] = [c.req.param('name') ?? '', c.req.param('version') ?? '']
  const { task, version } = await requireVersion(c.env.DB, c.get('projectId'), name, text)
  await updateVersion(c.env.DB, task, version.number, change)
  forgetTask(task.projectId, task.name)
  return toVersion({ ...version, ...change }, task)
}

function sendFile(
  bytes: Uint8Array,
  filename: string,
  adapterDigest: string,
  contentType: string,
): Response {
  return new Response(bytes, {
    headers: {
      'content-type': contentType,
      'content-disposition': `attachment; filename="${filename}"`,
      'x-arcana-adapter': adapterDigest,
    },
  })
}

/** @throws {ApiError} the model is not served, or neither the request nor the file names one */
function modelOf({ format, version }: AdapterUpload, config: Config): string {
  if (version.model == null) {
    if (format !== 'peft') return defaultModel(config)
    throw invalidRequest(
      "Missing required parameter: 'version.model'. PEFT's files do not name the base model's " +
        'digest, so the request must say on which model the adapter was learnt.',
      'version.model',
    )
  }
  if (servedModels(config).includes(version.model)) return version.model
  throw modelNotFound(version.model).withParam(() => 'version.model')
}
