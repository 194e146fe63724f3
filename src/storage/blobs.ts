import { sha256Hex } from './digest.ts'

/** The keys of blobs in R2. Every key begins with the project. */
export const adapterKey = (projectId: string, digest: string) => `${projectId}/adapters/${digest}`
export const fileKey = (projectId: string, fileId: string) => `${projectId}/files/${fileId}`
export const reportKey = (projectId: string, jobId: string) => `${projectId}/reports/${jobId}.json`
export const datasetKey = (
  projectId: string,
  jobId: string,
  part: 'training' | 'validation' | 'round',
) => `${projectId}/jobs/${jobId}/${part}.json`

/** A blob's bytes are not those that were stored. */
export class BlobCorrupt extends Error {
  override readonly name = 'BlobCorrupt'
  readonly key: string

  constructor(key: string) {
    super(`the bytes of the blob ${key} have changed`)
    this.key = key
  }
}

/**
 * Reads a blob and checks its digest.
 * @param digest the SHA-256 of its bytes
 * @returns null if there is no such blob
 * @throws {BlobCorrupt}
 */
export async function readBlob(
  bucket: R2Bucket,
  key: string,
  digest: string,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const object = await bucket.get(key)
  if (object === null) return null
  const bytes = new Uint8Array(await object.arrayBuffer())
  if ((await sha256Hex(bytes)) !== digest) throw new BlobCorrupt(key)
  return bytes
}
