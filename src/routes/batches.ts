import { Hono } from 'hono'
import { batchStub } from '../batches/batch-stub.ts'
import type { AppEnv } from '../context.ts'
import { findBatch, listBatches } from '../db/batches.ts'
import { findFile } from '../db/files.ts'
import type { Bindings } from '../env.ts'
import { readJsonObject } from '../http/read-json.ts'
import { batchesQuerySchema, createBatchSchema } from '../protocol/openai/batches.ts'
import { ApiError, invalidField, invalidRequest, notFound } from '../protocol/openai/error.ts'
import { toPage } from '../protocol/openai/files.ts'
import { hexId } from '../protocol/openai/hex-id.ts'
import { parseWire } from '../protocol/parse.ts'

const WINDOW_MS = 24 * 60 * 60_000

export const batches = new Hono<AppEnv>()
  .post('/', async (c) => {
    const projectId = c.get('projectId')
    const { inputFileId, endpoint, metadata } = parseWire(
      createBatchSchema,
      await readJsonObject(c.req.raw),
    )
    const file = await findFile(c.env.DB, projectId, inputFileId)
    if (file === null) {
      throw invalidRequest(`No such file: ${inputFileId}`, 'input_file_id', 'file_not_found')
    }
    if (file.purpose !== 'batch') {
      throw invalidField('input_file_id', `the file's purpose is ${file.purpose}, not batch`)
    }
    const createdAtMs = Date.now()
    const { keyId, limits } = c.get('caller')
    const spec = {
      projectId,
      keyId,
      limits,
      id: `batch_${hexId()}`,
      createdAtMs,
      expiresAtMs: createdAtMs + WINDOW_MS,
      endpoint,
      inputFileId,
      inputKey: file.blobKey,
      metadata,
      outputFileId: `file-${hexId()}`,
      errorFileId: `file-${hexId()}`,
    }
    // The object writes the row in D1, so that there is never a row without a batch.
    return c.json(await batchStub(c.env, projectId, spec.id).create(spec))
  })
  .get('/', async (c) => {
    const page = parseWire(batchesQuerySchema, c.req.query())
    const rows = await listBatches(c.env.DB, c.get('projectId'), page)
    if (rows === null) throw invalidRequest('No such batch to list after.', 'after')
    return c.json(toPage(rows, page.limit))
  })
  .get('/:id', async (c) => {
    const id = c.req.param('id')
    const batch = await (await requireBatch(c.env, c.get('projectId'), id)).read()
    if (batch === null) throw noBatch(id)
    return c.json(batch)
  })
  .post('/:id/cancel', async (c) => {
    const id = c.req.param('id')
    const cancelled = await (await requireBatch(c.env, c.get('projectId'), id)).cancel()
    if (cancelled === null) throw noBatch(id)
    const { isTooLate, batch } = cancelled
    if (!isTooLate) return c.json(batch)
    throw new ApiError(409, `Cannot cancel a batch with status '${batch.status}'.`)
  })

async function requireBatch(env: Bindings, projectId: string, id: string) {
  const row = await findBatch(env.DB, projectId, id)
  if (row === null) throw noBatch(id)
  return batchStub(env, projectId, id)
}

const noBatch = (id: string) => notFound(`No such batch: ${id}`, 'id', 'batch_not_found')
