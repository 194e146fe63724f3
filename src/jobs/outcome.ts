import type { JobSpec, JobState } from './job-spec.ts'
import type { GuardOutcome } from '../protocol/openai/job-report.ts'
import type { AnyReport } from '../protocol/openai/text-report.ts'
import type { NewVersion } from '../db/versions.ts'
import { message } from './step-context.ts'
import type { Transition } from './step.ts'

/** What becomes of a job's version. */
export type Decision = {
  readonly isPublished: boolean
  readonly isLive: boolean
  /** Live against an enforced outcome, because the job asked for it. */
  readonly isForced: boolean
  /** The guard itself makes it live. */
  readonly isShown: boolean
  /** The guard's finding does not hold the adapter back. */
  readonly isUnheld: boolean
}

/**
 * What a job's outcome means for its version: a shown gain goes live, a promising one is published and
 * not live, and nothing is published where nothing helps. `force`, and `guard: "report"`, make an
 * adapter live that gained on its own examples, whatever the outcome; `publish: "promising"` makes a
 * promising version live.
 * @param hasAdapter whether an adapter gained on its own examples
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

/** The step after a report: publish the version, or end the job with its reason. */
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

/** Whether a finished job's version went live; it did in all of older releases. */
export const isLiveVersion = ({ publication }: JobState): boolean => publication?.isLive ?? true
