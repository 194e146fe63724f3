import type { Bindings } from '../env.ts'

/** Naming an object brings it into being, so ask D1 first whether the batch exists. */
export const batchStub = ({ BATCHES }: Bindings, projectId: string, batchId: string) =>
  BATCHES.get(BATCHES.idFromName(`${projectId}/${batchId}`))
