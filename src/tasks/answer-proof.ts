import type { ArcanaProof } from '../protocol/openai/chat-completions.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import type { Applied, LabelProbability } from '../protocol/runner.ts'
import type { ResolvedSelection } from './compose.ts'
import { calibrateLabels, isWithheld } from './confidence.ts'

/**
 * The proof in an answer's body: what the runner says it applied, with the caller's names for tasks
 * and versions.
 * @param labels the labels' probabilities as the runner gave them
 */
export function proofOf(
  selection: ResolvedSelection | null,
  applied: Applied,
  runnerId: string,
  labels?: readonly LabelProbability[],
  confidence: Confidence | null = null,
): ArcanaProof {
  const served = labels === undefined ? undefined : calibrateLabels(labels, selection)
  const terms = selection?.terms ?? []
  return {
    task: selection?.expression ?? null,
    version: terms.length === 1 ? terms[0]!.version.number : null,
    adapters: applied.adapters.map(({ digest, weight }) => {
      const version = terms.find((term) => term.version.adapterDigest === digest)!.version
      return { digest, weight, task: version.task, version: version.number }
    }),
    scope: applied.scope,
    layers: applied.layers,
    model_digest: applied.model_digest,
    build_digest: applied.build_digest,
    runner: runnerId,
    ...(served === undefined ? {} : { labels: served }),
    ...(served === undefined || confidence === null
      ? {}
      : { min_confidence: confidence.min, withheld: isWithheld(served, confidence) }),
  }
}

/** The first of the times at which a version of the selection stops to answer; null if none is retired. */
export function retirementOf(selection: ResolvedSelection | null): number | null {
  const times = (selection?.terms ?? []).flatMap(({ version }) => version.retiresAtMs ?? [])
  return times.length === 0 ? null : Math.min(...times)
}

/**
 * The proof in an answer's headers; the base model has none. A sum lists its terms in order. A retired
 * version adds `sunset`, by RFC 8594.
 */
export function proofHeaders(selection: ResolvedSelection | null): Record<string, string> {
  if (selection === null) return {}
  const retiresAtMs = retirementOf(selection)
  return {
    ...(retiresAtMs === null ? {} : { sunset: new Date(retiresAtMs).toUTCString() }),
    'x-arcana-task': selection.expression,
    'x-arcana-version': selection.terms.map(({ version }) => version.number).join(','),
    'x-arcana-adapter': selection.arm.adapters.map(({ digest }) => digest).join(','),
  }
}
