import { Hono } from 'hono'
import { touchedLayers } from '../../adapters/rotation/rotation.ts'
import { MAX_ADAPTER_BYTES } from '../../adapters/format/limits.ts'
import type { AppEnv } from '../context.ts'
import { findVersion, publishVersion, type NewVersion, type Version } from '../db/versions.ts'
import { servedModel } from '../dispatch/served-model.ts'
import { readBounded } from '../http/read-json.ts'
import {
  adapterFormatSchema,
  uploadedVersionSchema,
  type AdapterFormat,
  type UploadedVersion,
} from '../protocol/arcana/tasks.ts'
import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import { parseWire } from '../protocol/parse.ts'
import { servicesOf } from '../services.ts'
import { adapterKey, reportKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { readUploadedAdapter, toPeftZip } from '../tasks/adapter-exchange.ts'
import { forgetTask } from '../tasks/resolve.ts'
import { BASE_NAME, TASK_NAME_PATTERN } from '../tasks/selection.ts'
import { readAdapter } from '../tasks/stored-adapter.ts'
import { digestOfVersion } from '../tasks/version-content.ts'
import { noVersion, requireTask, toVersion } from './tasks.ts'

/** The adapter with its form around it. */
const MAX_UPLOAD_BYTES = MAX_ADAPTER_BYTES + 1024 * 1024
const ZIP = 'application/zip'
const FORM_FIELDS: ReadonlySet<string> = new Set(['file', 'format', 'version'])

/** A task's versions as files: adapters out, and adapters in as new versions. */
export const versions = new Hono<AppEnv>()
  .get('/:name/versions/:version/adapter', async (c) => {
    const projectId = c.get('projectId')
    const format = parseWire(adapterFormatSchema, c.req.query('format') ?? 'arcana', 'format')
    const version = await requireVersion(
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
    const upload = await readUpload(c.req.raw)
    checkModel(upload, config.baseModel)
    const model = await servedModel(runners, config.baseModel)
    const { file, bytes } = await readUploadedAdapter(upload.bytes, upload.format, {
      slug: config.baseModel,
      modelDigest: model.model_digest,
      geometry: {
        numLayers: model.num_layers,
        numHeads: model.num_heads,
        headDim: model.head_dim,
      },
    })
    const layers = touchedLayers(file.rotation)
    const { instructions, position, labels, bias } = upload.version
    if (layers.length === 0 && bias == null) {
      throw invalidRequest("Invalid 'file': it rotates nothing, and no bias is given.", 'file')
    }
    const content = {
      model: config.baseModel,
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
    const id = `import-${crypto.randomUUID().replaceAll('-', '')}`
    const created: NewVersion = {
      ...content,
      projectId,
      task: name,
      digest: await digestOfVersion(content),
      reportKey: reportKey(projectId, id),
      jobId: id,
      createdAtMs: Date.now(),
    }
    await c.env.BLOBS.put(adapterKey(projectId, content.adapterDigest), bytes)
    const number = await publishVersion(c.env.DB, created)
    forgetTask(projectId, name)
    const task = await requireTask(c.env.DB, projectId, name)
    return c.json(toVersion({ ...created, number, corruptAtMs: null }, task, null))
  })

async function requireVersion(
  db: D1Database,
  projectId: string,
  name: string,
  text: string,
): Promise<Version> {
  const task = await requireTask(db, projectId, name)
  const number = /^[1-9][0-9]{0,8}$/.test(text) ? Number(text) : null
  const version = number === null ? null : await findVersion(db, projectId, name, number)
  if (version === null || version.number <= task.retiredThrough) throw noVersion(name, text)
  return version
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

type Upload = {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly format: AdapterFormat
  readonly version: UploadedVersion
}

/** Reads the multipart form: `file`, and optionally `format` and the JSON field `version`. */
async function readUpload(request: Request): Promise<Upload> {
  const body = await readBounded(request, MAX_UPLOAD_BYTES)
  let form: FormData
  try {
    const type = request.headers.get('content-type') ?? ''
    form = await new Response(body, { headers: { 'content-type': type } }).formData()
  } catch {
    throw invalidRequest('The request body must be multipart/form-data with a file.')
  }
  for (const field of form.keys()) {
    if (!FORM_FIELDS.has(field) || form.getAll(field).length > 1) {
      throw invalidRequest(
        `Unrecognized or repeated request argument supplied: ${field}`,
        field.slice(0, 64),
      )
    }
  }
  const file = form.get('file')
  if (file === null || typeof file === 'string') {
    throw invalidRequest("Missing required parameter: 'file', sent as a file.", 'file')
  }
  return {
    bytes: new Uint8Array(await file.arrayBuffer()),
    format: parseWire(adapterFormatSchema, form.get('format') ?? 'arcana', 'format'),
    version: parseWire(uploadedVersionSchema, readVersionField(form.get('version')), 'version'),
  }
}

function readVersionField(field: string | File | null): unknown {
  if (field === null) return {}
  try {
    return JSON.parse(typeof field === 'string' ? field : '')
  } catch {
    throw invalidRequest("Invalid 'version': it is not JSON.", 'version', 'invalid_json')
  }
}

function checkModel({ format, version }: Upload, baseModel: string): void {
  if (version.model == null) {
    if (format !== 'peft') return
    throw invalidRequest(
      "Missing required parameter: 'version.model'. PEFT's files name no base model by digest, " +
        'so you say what the adapter was learnt on.',
      'version.model',
    )
  }
  if (version.model !== baseModel) {
    throw new ApiError(404, `The model \`${version.model}\` does not exist.`, {
      param: 'version.model',
      code: 'model_not_found',
    })
  }
}
