import { markCorrupt } from '../db/versions.ts'
import type { Bindings } from '../env.ts'
import { ApiError } from '../protocol/openai/error.ts'
import { adapterKey, BlobCorrupt, readBlob } from '../storage/blobs.ts'

/**
 * Reads a project's adapter file. If its bytes have changed in storage, it marks the versions that
 * use the adapter as damaged and refuses to serve it. Uploading the same file again mends them.
 * @throws {ApiError} 500 `adapter_missing` or `adapter_corrupt`, which a retry does not change
 */
export async function readAdapter(
  { BLOBS, DB }: Pick<Bindings, 'BLOBS' | 'DB'>,
  projectId: string,
  digest: string,
): Promise<Uint8Array<ArrayBuffer>> {
  let bytes: Uint8Array<ArrayBuffer> | null
  try {
    bytes = await readBlob(BLOBS, adapterKey(projectId, digest), digest)
  } catch (error) {
    if (!(error instanceof BlobCorrupt)) throw error
    const isNew = await markCorrupt(DB, projectId, digest, Date.now())
    if (isNew) console.error(JSON.stringify({ event: 'adapter_corrupt', key: error.key }))
    throw new ApiError(
      500,
      `The stored adapter ${digest} is damaged. Upload the same file again to mend it.`,
      { code: 'adapter_corrupt', isFinal: true },
    )
  }
  if (bytes === null) {
    throw new ApiError(500, `The adapter ${digest} is missing from storage.`, {
      code: 'adapter_missing',
      isFinal: true,
    })
  }
  return bytes
}
