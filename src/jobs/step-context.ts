import { decodeAdapter } from '../../adapters/format/decode.ts'
import { encodeAdapter } from '../../adapters/format/encode.ts'
import type { Rotation } from '../../adapters/rotation/rotation.ts'
import { attempt, Unserved, type ChosenRunner } from '../dispatch/attempt.ts'
import { RunnerCallFailure } from '../dispatch/runner-client.ts'
import type { Evaluation } from './evaluate.ts'
import { trainingOrder } from './guard-folds.ts'
import { BuildChanged, JobFailure } from './faults.ts'
import type { JobSpec, PinnedModel, StoredDataset } from './job-spec.ts'
import type { NewEvent } from './job-store.ts'
import type { StepContext } from './step.ts'

export const message = (text: string, level: NewEvent['level'] = 'info'): NewEvent => ({
  level,
  type: 'message',
  message: text,
})

/**
 * Writes a rotation as an adapter file and reads it back. Trials score what was read back: serving
 * weights have few bits, so that rounding angles to float16 may change a score as much as a round of
 * the search does, and the version must serve exactly what the search chose.
 */
export function toStored(
  spec: JobSpec,
  pinned: PinnedModel,
  rotation: Rotation,
): { readonly bytes: Uint8Array<ArrayBuffer>; readonly rotation: Rotation } {
  const { modelDigest, geometry } = pinned
  const bytes = encodeAdapter({ modelDigest, scope: spec.scope, rotation, dtype: 'F16' })
  const decoded = decodeAdapter(bytes, geometry)
  if (!decoded.ok) throw new Error(`the job's own adapter is unreadable: ${decoded.error.message}`)
  return { bytes, rotation: decoded.value.rotation }
}

export function evaluationOf(
  context: StepContext,
  pinned: PinnedModel,
  client: Evaluation['client'],
  dataset: StoredDataset,
): Evaluation {
  const { spec, search } = context
  const isOrdered = dataset === spec.training && search.datasetUse === 'gradient'
  return {
    client,
    blobs: context.env.BLOBS,
    dataset,
    ...(isOrdered ? { order: trainingOrder(context) } : {}),
    scope: spec.scope,
    geometry: pinned.geometry,
    buildDigest: pinned.buildDigest,
    numLabels: spec.labels.length,
    longestTarget: longestTargetOf(pinned),
    signal: context.signal,
  }
}

function longestTargetOf({ targetTokens }: PinnedModel): number | null {
  if (targetTokens === undefined) return null
  return Math.max(...targetTokens.training, ...targetTokens.validation)
}

/**
 * Makes a step's calls on one runner that serves the job's pinned build.
 * @throws {RunnerCallFailure | RunnerRefusal | BuildChanged}
 */
export async function withRunner<T>(
  { runners, spec, state, signal }: StepContext,
  use: (runner: ChosenRunner) => Promise<T>,
): Promise<T> {
  const wish = {
    kind: 'compute',
    model: spec.model,
    modelDigest: state.pinned?.modelDigest ?? null,
    buildDigest: state.pinned?.buildDigest ?? null,
    adapters: [],
  } as const
  try {
    return await attempt(runners, wish, use, { signal, firstOnly: true })
  } catch (error) {
    if (!(error instanceof Unserved)) throw error
    if (error.kind === 'wrong_build') throw new BuildChanged()
    const which = error.kind === 'wrong_model' ? ' on which this job began' : ''
    throw new RunnerCallFailure('unreachable', `no runner serves the ${spec.model}${which}`)
  }
}

/**
 * Turns a RangeError of a search's constructor into a failure of the job; other errors stay as they
 * are.
 */
export function asJobFailure(error: unknown): unknown {
  if (!(error instanceof RangeError)) return error
  return new JobFailure(
    'invalid_hyperparameters',
    `This search is impossible for this model: ${error.message}.`,
    'method',
  )
}
