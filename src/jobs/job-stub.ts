import type { Bindings } from '../env.ts'

/** The Durable Object of a job. Naming an object brings it into being, so ask D1 first whether the job exists. */
export const jobStub = ({ JOBS }: Bindings, projectId: string, jobId: string) =>
  JOBS.get(JOBS.idFromName(`${projectId}/${jobId}`))
