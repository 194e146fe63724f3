import type { JobSpec, JobState } from './job-spec.ts'
import type { GuardOutcome } from '../protocol/openai/job-report.ts'
import type { AnyReport } from '../protocol/openai/text-report.ts'
import type { NewVersion } from '../db/versions.ts'
import { message } from './step-context.ts'
import type { Transition } from './step.ts'

/** What a job does with its version. */
export type Decision = {
  readonly isPublished: boolean
  readonly isLive: boolean
  /** The version goes live against an enforced outcome, because the job asked for it. */
  readonly isForced: boolean
  /** The guard found that it helps. */
  readonly isShown: boolean
  /** The adapter goes live whatever the guard found. */
  readonly isUnheld: boolean
}

/**
 * Decides by the guard's outcome what to do with a version. One that is shown to help goes live. A
 * promising one is published but does not go live, unless `publish` is "promising". One that does
 * not help is not published. Under `force`, and under `guard: "report"` for an adapter that is
 * better on its own examples, it goes live whatever the outcome.
 * @param hasAdapter whether the adapter is better than the base model on its own examples
 */
export function decide(spec: JobSpec, outcome: GuardOutcome, hasAdapter: boolean): Decision {
  const isShown = outcome === 'proven' || outcome === 'bias_only'
  const isEnforced = spec.guard === 'enforce'
  const isUnheld = spec.force || (!isEnforced && hasAdapter)
  const isWanted = outcome === 'promising' && spec.publish === 'promising'
  return {
    isPublished: outcome !== 'no_gain' || isUnheld,
    isLive: isShown || isWanted || isUnheld,
    isForced: isEnforced && spec.force && !isShown && !isWanted,
    isShown,
    isUnheld,
  }
}

/** What follows a report: the job publishes its version, or ends and says why not. */
export function conclude(
  { isPublished, isLive, isShown }: Decision,
  publication: { readonly version: NewVersion; readonly report: AnyReport } | null,
  { summary, enforced }: Pick<AnyReport['guard'], 'summary' | 'enforced'>,
): Transition {
  if (isPublished && publication !== null) {
    const isDoubted = isLive && !isShown
    const why = enforced ? 'as the job asked' : 'because the job’s guard is "report"'
    const doubts = isDoubted
      ? [message(`${summary} It goes live all the same, ${why}.`, 'warn')]
      : []
    return {
      state: { phase: 'publishing', publication: { ...publication, isLive } },
      events: doubts,
    }
  }
  const text = `Nothing was published. ${summary}`
  return {
    state: {
      phase: 'finished',
      status: 'failed',
      finishedAtMs: Date.now(),
      error: { code: 'no_gain', message: text, param: null },
      publication,
    },
    events: [message(text, 'warn')],
  }
}

/** Whether a finished job's version went live. In older releases every version did. */
export const isLiveVersion = ({ publication }: JobState): boolean => publication?.isLive ?? true
