import { publishVersion } from '../db/versions.ts'
import type { JobCheckpoint } from '../protocol/openai/fine-tuning.ts'
import { reportKey } from '../storage/blobs.ts'
import { forgetTask } from '../tasks/resolve.ts'
import type { Checkpoint, JobSpec, JobState, PinnedModel } from './job-spec.ts'
import { objectiveOf } from './objectives/objectives.ts'
import { message } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'

/**
 * Publishes what a search that goes on has so far, as a version that is not live. It is measured and
 * judged as a job's own is; where nothing learnt helps, nothing is published. Each
 * checkpoint's row has a key of its own, so that a crash before the state is written repeats the
 * step without a second version.
 */
export async function publishCheckpoint(
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
  const { spec, env, state, trials } = context
  const { phase, publication } = (await context.objective.report(context, pinned)).state
  if (phase !== 'publishing' || publication == null) {
    return {
      state: { phase: 'searching' },
      events: [
        message('The first configuration is no version yet: nothing it learnt helps so far.'),
      ],
    }
  }
  const known = state.checkpoints ?? []
  const jobId = `${spec.id}/${known.length + 1}`
  const version = { ...publication.version, jobId, reportKey: reportKey(spec.projectId, jobId) }
  await env.BLOBS.put(version.reportKey, JSON.stringify(publication.report))
  const versionNumber = await publishVersion(env.DB, version, { isLive: false })
  forgetTask(spec.projectId, spec.task)
  const made: Checkpoint = {
    versionNumber,
    createdAtMs: Date.now(),
    numTrials: trials.length,
    metrics: context.objective.checkpointMetrics(publication.report),
  }
  return {
    state: { phase: 'searching', checkpoints: [...known, made] },
    events: [
      message(
        `Published ${spec.task}@${versionNumber}, a first version that is not live; the search goes on.`,
      ),
    ],
  }
}

/** The job whose version a row is, whether a checkpoint or the job's own. */
export const jobOfVersion = (jobId: string): string => jobId.split('/')[0]!

/** A job's checkpoints and, once it is published, its own version, newest first. */
export function viewCheckpoints(spec: JobSpec, state: JobState): JobCheckpoint[] {
  const made = [...(state.checkpoints ?? [])]
  const { versionNumber, publication } = state
  if (versionNumber !== null && publication !== null) {
    const { report: own, version } = publication
    made.push({
      versionNumber,
      createdAtMs: state.finishedAtMs ?? version.createdAtMs,
      numTrials: own.n_trials,
      metrics: objectiveOf(spec).checkpointMetrics(own),
    })
  }
  return made
    .map((checkpoint): JobCheckpoint => {
      const { versionNumber: number, createdAtMs, numTrials, metrics } = checkpoint
      return {
        id: `ftckpt-${spec.id.replace(/^ftjob-/, '')}-${number}`,
        object: 'fine_tuning.job.checkpoint',
        created_at: Math.floor(createdAtMs / 1000),
        fine_tuned_model_checkpoint: `${spec.model}:${spec.task}@${number}`,
        fine_tuning_job_id: spec.id,
        step_number: numTrials,
        metrics: { step: numTrials, ...metrics },
      }
    })
    .reverse()
}
