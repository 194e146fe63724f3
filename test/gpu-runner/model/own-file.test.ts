import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { DEFAULT_MODEL_SLUG } from '../../../gpu-runner/model/catalogue.ts'
import { digestOfOwnFile } from '../../../gpu-runner/model/own-file.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'arcana-own-file-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('a user’s own model file', () => {
  it('is identified by its SHA-256', async ({ expect }) => {
    const path = join(folder, 'own.gguf')
    const bytes = Buffer.alloc(3_000_000, 7)
    await writeFile(path, bytes)
    const digest = createHash('sha256').update(bytes).digest('hex')
    expect(await digestOfOwnFile(path, 'my-model.2')).toBe(digest)
  })

  it('needs a name that no other model has and that a request can hold', async ({ expect }) => {
    const path = join(folder, 'none.gguf')
    await expect(digestOfOwnFile(path, DEFAULT_MODEL_SLUG)).rejects.toThrow(/needs a new name/)
    for (const slug of ['a:b', 'A', '', 'a b', '-x']) {
      await expect(digestOfOwnFile(path, slug)).rejects.toThrow(/ARCANA_MODEL must be/)
    }
    await expect(digestOfOwnFile(path, 'fine')).rejects.toThrow(/ENOENT/)
  })
})
