import type { NewVersion } from '../db/versions.ts'
import { reportKey } from '../storage/blobs.ts'
import { digestOfVersion } from '../tasks/version-content.ts'
import type { PinnedModel } from './job-spec.ts'
import type { StepContext } from './step.ts'

/** The version that publishes what a job has found. */
export async function describeVersion(
  { spec, objective }: StepContext,
  pinned: PinnedModel,
  adapter: {
    readonly adapterDigest: string | null
    readonly layers: readonly number[]
    /** Null, like the temperature, unless the job learns labels. */
    readonly bias: readonly number[] | null
    readonly temperature: number | null
  },
): Promise<NewVersion> {
  const content = {
    model: spec.model,
    modelDigest: pinned.modelDigest,
    adapterDigest: adapter.adapterDigest,
    // A label bias alone rotates nothing, so its requests may share computed prompts with all
    // others.
    scope: adapter.adapterDigest === null ? ('generated' as const) : spec.scope,
    layers: adapter.layers,
    instructions: spec.frame.instructions,
    position: spec.frame.position,
    labels: objective.hasLabels ? spec.labels : null,
    bias: adapter.bias,
    temperature: adapter.temperature,
    minConfidence: spec.confidence?.min ?? null,
    fallbackLabel: spec.confidence?.fallbackLabel ?? null,
  }
  return {
    ...content,
    projectId: spec.projectId,
    task: spec.task,
    digest: await digestOfVersion(content),
    reportKey: reportKey(spec.projectId, spec.id),
    jobId: spec.id,
    tags: spec.tags ?? null,
    notes: spec.notes ?? null,
    createdAtMs: Date.now(),
  }
}
