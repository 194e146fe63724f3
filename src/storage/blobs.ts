/** Where bytes lie in R2. Every key begins with the project. */
export const adapterKey = (projectId: string, digest: string) => `${projectId}/adapters/${digest}`
export const fileKey = (projectId: string, fileId: string) => `${projectId}/files/${fileId}`
export const reportKey = (projectId: string, jobId: string) => `${projectId}/reports/${jobId}.json`
export const datasetKey = (
  projectId: string,
  jobId: string,
  part: 'training' | 'validation' | 'round',
) => `${projectId}/jobs/${jobId}/${part}.json`

/** @returns null where there is no such blob */
export async function readBlob(bucket: R2Bucket, key: string): Promise<Uint8Array | null> {
  const object = await bucket.get(key)
  return object === null ? null : object.bytes()
}
