import type { FineTuningJob, JobCheckpoint, JobEvent } from '../protocol/openai/fine-tuning.ts'
import type { AnyReport } from '../protocol/openai/text-report.ts'
import type { JobSpec } from './job-spec.ts'

export type CancelOutcome = {
  readonly outcome: 'cancelled' | 'too_late'
  readonly job: FineTuningJob
}

export type ForceOutcome = { readonly done: boolean; readonly job: FineTuningJob }

/** The report is null until the job has decided about its version. */
export type JobResult = { readonly job: FineTuningJob; readonly report: AnyReport | null }

/**
 * The calls that the Worker makes on a job's Durable Object. All but `create` give null if it has
 * no job.
 */
export interface JobCalls {
  create(spec: JobSpec): Promise<FineTuningJob>
  read(): JobResult | null
  listEvents(limit: number, after: string | undefined): JobEvent[] | null
  listCheckpoints(): JobCheckpoint[] | null
  cancel(): Promise<CancelOutcome | null>
  forcePublish(): Promise<ForceOutcome | null>
}
