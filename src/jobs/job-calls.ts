import type { FineTuningJob, JobCheckpoint, JobEvent } from '../protocol/openai/fine-tuning.ts'
import type { AnyReport } from '../protocol/openai/text-report.ts'
import type { JobSpec } from './job-spec.ts'

export type CancelOutcome = {
  readonly outcome: 'cancelled' | 'too_late'
  readonly job: FineTuningJob
}

export type ForceOutcome = { readonly done: boolean; readonly job: FineTuningJob }

/** The report is null until it is decided what becomes of the job's version. */
export type JobResult = { readonly job: FineTuningJob; readonly report: AnyReport | null }

/** What the Worker may ask of a job's Durable Object. All but `create` answer null where no job was made there. */
export interface JobCalls {
  create(spec: JobSpec): Promise<FineTuningJob>
  read(): JobResult | null
  listEvents(limit: number, after: string | undefined): JobEvent[] | null
  listCheckpoints(): JobCheckpoint[] | null
  cancel(): Promise<CancelOutcome | null>
  forcePublish(): Promise<ForceOutcome | null>
}
