import { hexId } from '../protocol/openai/hex-id.ts'
import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { deleteFile, findFile, insertFile, listFiles, type FileRow } from '../db/files.ts'
import { receiveUpload } from '../files/upload.ts'
import { LongLines } from '../jobs/fit-context.ts'
import { ApiError, invalidRequest, notFound } from '../protocol/openai/error.ts'
import { filesPageSchema, toPage, type FileObject } from '../protocol/openai/files.ts'
import { parseWire } from '../protocol/parse.ts'
import { servicesOf } from '../services.ts'
import { defaultModel } from '../tasks/requested-model.ts'
import { fileKey } from '../storage/blobs.ts'

export const files = new Hono<AppEnv>()
  .post('/', async (c) => {
    const projectId = c.get('projectId')
    const id = `file-${hexId()}`
    const blobKey = fileKey(projectId, id)
    const { config, runners } = servicesOf(c.env)
    const long = await LongLines.create(runners, defaultModel(config))
    const uploaded = await receiveUpload(c.req.raw, c.env.BLOBS, blobKey, undefined, (...each) => {
      long?.take(...each)
    })
    const row: FileRow = { projectId, id, blobKey, createdAtMs: Date.now(), ...uploaded }
    try {
      await insertFile(c.env.DB, row)
    } catch (error) {
      // Nobody can find the blob without its row.
      await c.env.BLOBS.delete(blobKey)
      throw error
    }
    const file = toFileObject(row)
    const tooLong = row.purpose === 'fine-tune' ? ((await long?.describe()) ?? null) : null
    if (tooLong === null) return c.json(file)
    return c.json({ ...file, arcana: { ...file.arcana, too_long: tooLong } } satisfies FileObject)
  })
  .get('/', async (c) => {
    const page = parseWire(filesPageSchema, c.req.query())
    const rows = await listFiles(c.env.DB, c.get('projectId'), page, page.purpose)
    if (rows === null) throw invalidRequest('No such file to list after.', 'after')
    return c.json(toPage(rows.map(toFileObject), page.limit))
  })
  .get('/:id', async (c) =>
    c.json(toFileObject(await requireFile(c.env.DB, c.get('projectId'), c.req.param('id')))),
  )
  .get('/:id/content', async (c) => {
    const row = await requireFile(c.env.DB, c.get('projectId'), c.req.param('id'))
    const object = await c.env.BLOBS.get(row.blobKey)
    if (object === null) {
      throw new ApiError(500, `The content of ${row.id} is missing.`, { code: 'blob_missing' })
    }
    return c.body(object.body, 200, {
      'content-type': 'application/octet-stream',
      'content-length': String(object.size),
    })
  })
  .delete('/:id', async (c) => {
    const id = c.req.param('id')
    const row = await deleteFile(c.env.DB, c.get('projectId'), id)
    if (row === null) throw noFile(id)
    await c.env.BLOBS.delete(row.blobKey)
    return c.json({ id, object: 'file', deleted: true })
  })

async function requireFile(db: D1Database, projectId: string, id: string): Promise<FileRow> {
  const row = await findFile(db, projectId, id)
  if (row === null) throw noFile(id)
  return row
}

const noFile = (id: string) => notFound(`No such File object: ${id}`, 'id', 'file_not_found')

const toFileObject = (row: FileRow): FileObject => ({
  id: row.id,
  object: 'file',
  bytes: row.sizeBytes,
  created_at: Math.floor(row.createdAtMs / 1000),
  filename: row.filename,
  purpose: row.purpose,
  status: 'processed',
  arcana: { num_examples: row.numExamples },
})
