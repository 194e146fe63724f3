import {
  METHOD_TYPE,
  type FineTuningJob,
  type JobProgress,
} from '../protocol/openai/fine-tuning.ts'
import type { JobSpec, JobState } from './job-spec.ts'
import { objectiveOf } from './objectives/objectives.ts'
import { isLiveVersion } from './outcome.ts'
import { searchOf } from './searches/searches.ts'

const seconds = (ms: number) => Math.floor(ms / 1000)

/** The job as its owner sees it, without the report. */
export function viewJob(
  spec: JobSpec,
  state: JobState,
  progress: JobProgress,
  nowMs: number,
): FineTuningJob {
  const objective = objectiveOf(spec)
  const isSucceeded = state.status === 'succeeded'
  return {
    id: spec.id,
    object: 'fine_tuning.job',
    created_at: seconds(spec.createdAtMs),
    finished_at: state.finishedAtMs === null ? null : seconds(state.finishedAtMs),
    model: spec.model,
    fine_tuned_model: isSucceeded ? nameModel(spec, state) : null,
    organization_id: spec.projectId,
    status: state.status,
    hyperparameters: {},
    training_file: spec.trainingFile,
    validation_file: spec.validationFile,
    result_files: [],
    seed: spec.seed,
    // A job with a grader generates texts, and trains on none of its file's.
    trained_tokens:
      isSucceeded && objective.usesDataset
        ? (state.pinned?.promptTokens ?? 0) * progress.trials_done
        : null,
    error: state.error,
    user_provided_suffix: spec.suffix === undefined ? spec.task : spec.suffix,
    metadata: spec.metadata,
    integrations: [],
    estimated_finish: estimateFinish(spec, state, progress, nowMs),
    method: {
      type: METHOD_TYPE,
      rotation: {
        instructions: spec.frame.instructions,
        position: spec.frame.position,
        objective: spec.objective,
        beta: spec.beta ?? null,
        grader: spec.grader ?? null,
        generation: spec.generation ?? null,
        labels: objective.hasLabels ? spec.labels : null,
        scope: spec.scope,
        guard: spec.guard,
        publish: spec.publish ?? 'proven',
        too_long: spec.tooLong ?? 'error',
        force: spec.force,
        tags: spec.tags ?? null,
        notes: spec.notes ?? null,
        min_confidence: spec.confidence?.min ?? null,
        fallback_label: spec.confidence?.fallbackLabel ?? null,
        hyperparameters: searchOf(spec).showHyperparameters(spec),
      },
    },
    arcana: { task: spec.task, version: state.versionNumber, progress },
  }
}

/** The model's name in requests. A version that did not go live needs its number. */
function nameModel({ model, task }: JobSpec, state: JobState): string {
  const isNumbered = !isLiveVersion(state) && state.versionNumber !== null
  return `${model}:${task}${isNumbered ? `@${state.versionNumber}` : ''}`
}

/** When the trials will be done, in Unix seconds: by the budget, or at the pace so far. */
function estimateFinish(
  spec: JobSpec,
  state: JobState,
  progress: JobProgress,
  nowMs: number,
): number | null {
  const done = progress.trials_done + progress.guard_trials_done
  const total = progress.trials_total + progress.guard_trials_total
  if (state.status !== 'running' || state.startedAtMs === null || done === 0) return null
  const budgetMs = searchOf(spec).budgetMs?.(spec)
  if (budgetMs !== undefined) return seconds(Math.max(nowMs, state.startedAtMs + budgetMs))
  return seconds(nowMs + ((nowMs - state.startedAtMs) / done) * (total - done))
}
