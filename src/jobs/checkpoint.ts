import { publishVersion } from '../db/versions.ts'
import type { JobCheckpoint } from '../protocol/openai/fine-tuning.ts'
import { reportKey } from '../storage/blobs.ts'
import { forgetTask } from '../tasks/resolve.ts'
import type { Checkpoint, JobSpec, JobState, PinnedModel } from './job-spec.ts'
import { objectiveOf } from './objectives/objectives.ts'
import { message } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'

/**
 * Publishes what the search has found so far as a version that is not live; then the search goes
 * on. A checkpoint is measured and judged like the job's last version, and one that does not help
 * is not published. Each checkpoint has a job id of its own in D1, so that a step that a crash
 * repeats finds the version that it made.
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
        message('The first configuration does not help yet, so there is no first version of it.'),
      ],
    }
  }
  const known = state.checkpoints ?? []
  const jobId = `${spec.id}/${known.length + 1}`
  const version = { ...publication.version, jobId, reportKey: reportKey(spec.projectId, jobId) }
  await env.BLOBS.put(version.reportKey, JSON.stringify(publication.report))
  const versionNumber = await publishVersion(env.DB, version, { isLive: false })
  forgetTask(spec.projectId, spec.task)
  const checkpoint: Checkpoint = {
    versionNumber,
    createdAtMs: Date.now(),
    numTrials: trials.length,
    metrics: context.objective.checkpointMetrics(publication.report),
  }
  return {
    state: { phase: 'searching', checkpoints: [...known, checkpoint] },
    events: [
      message(
        `Published ${spec.task}@${versionNumber}, a first version that is not live; the search goes on.`,
      ),
    ],
  }
}

/** The job that made a version. A checkpoint's row in D1 has the job's id and a number. */
export const jobOfVersion = (jobId: string): string => jobId.split('/')[0]!

/**
 * A job's checkpoints, newest first. Once the job has published its last version, that is one too.
 */
export function viewCheckpoints(spec: JobSpec, state: JobState): JobCheckpoint[] {
  const checkpoints = [...(state.checkpoints ?? [])]
  const { versionNumber, publication } = state
  if (versionNumber !== null && publication !== null) {
    const { report: own, version } = publication
    checkpoints.push({
      versionNumber,
      createdAtMs: state.finishedAtMs ?? version.createdAtMs,
      numTrials: own.n_trials,
      metrics: objectiveOf(spec).checkpointMetrics(own),
    })
  }
  return checkpoints
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
