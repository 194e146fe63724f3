import { hexId } from '../protocol/openai/hex-id.ts'
import { Hono } from 'hono'
import { touchedLayers } from '../../adapters/rotation/rotation.ts'
import type { AppEnv } from '../context.ts'
import { findVersion, publishVersion, type NewVersion, type Version } from '../db/versions.ts'
import type { Config } from '../env.ts'
import { servedModel } from '../dispatch/served-model.ts'
import { adapterFormatSchema } from '../protocol/arcana/tasks.ts'
import { invalidField, invalidRequest } from '../protocol/openai/error.ts'
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
import { noVersion, requireTask, toVersion } from './tasks.ts'

const ZIP = 'application/zip'

/** Downloads the adapters of a task's versions, and uploads adapters as new versions. */
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
    const { instructions, position, labels, bias } = upload.version
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
