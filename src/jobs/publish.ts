import { publishVersion } from '../db/versions.ts'
import { forgetTask } from '../tasks/resolve.ts'
import type { JobState } from './job-spec.ts'
import { message } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'

/** Stores the report and adds the version. A step that runs again adds no second version. */
export async function publish(
  context: StepContext,
  publication: NonNullable<JobState['publication']>,
): Promise<Transition> {
  const { spec, env } = context
  const { version, report } = publication
  // A state of an older release lacks this and means that the version goes live.
  const isLive = publication.isLive ?? true
  await env.BLOBS.put(version.reportKey, JSON.stringify(report))
  const number = await publishVersion(env.DB, version, { isLive })
  forgetTask(spec.projectId, spec.task)
  return {
    state: {
      phase: 'finished',
      status: 'succeeded',
      versionNumber: number,
      finishedAtMs: Date.now(),
    },
    events: [message(describePublication(spec.task, number, isLive, report.guard))],
  }
}

function describePublication(
  task: string,
  number: number,
  isLive: boolean,
  // A report of an older release has no summary.
  { summary, forced }: { readonly summary?: string; readonly forced: boolean },
): string {
  const published = isLive
    ? `Published ${task}@${number}; it is live${forced ? ', forced against the guard' : ''}.`
    : `Published ${task}@${number}, which is not live: POST /v1/tasks/${task}/promote makes it so.`
  return summary === undefined ? published : `${published} ${summary}`
}
