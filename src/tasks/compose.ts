import { fail, ok, type Result } from '../../adapters/result.ts'
import type { Version } from '../db/versions.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import type { Arm, Scope } from '../protocol/runner.ts'
import type { Frame } from './frame.ts'
import { formatSelection, type SelectionTerm } from './selection.ts'

/** A term of a selection and the version that it names. */
export type ResolvedTerm = { readonly term: SelectionTerm; readonly version: Version }

/** A selection with everything that an answer by it needs. */
export type ResolvedSelection = {
  /** The canonical text. It names versions only if the caller did. */
  readonly expression: string
  readonly terms: readonly ResolvedTerm[]
  /** Each adapter has one entry; the weights of terms with the same adapter are summed. */
  readonly arm: Arm
  readonly frame: Frame
  readonly labels: readonly string[] | null
  /** Divides the labels' biased log probabilities. */
  readonly temperature: number
  /** When the task withholds its answer; null if it never does. */
  readonly confidence: Confidence | null
  readonly model: string
  readonly modelDigest: string
}

export type ComposeError = {
  readonly reason: 'scopes_differ' | 'labels_differ' | 'models_differ'
  readonly message: string
}

/**
 * Joins the terms of a sum. The first term gives the frame and the labels. The other terms have the
 * same set of labels or none, and all have the same scope. Each bias is multiplied by its term's
 * weight.
 */
export function composeTerms(
  terms: readonly ResolvedTerm[],
): Result<ResolvedSelection, ComposeError> {
  const first = terms[0]
  if (first === undefined) throw new RangeError('the selection has no terms')
  const { scope, labels, model, modelDigest, instructions, position } = first.version
  for (const { term, version } of terms) {
    const names = `${first.term.name} and ${term.name}`
    if (version.modelDigest !== modelDigest) {
      return fail({ reason: 'models_differ', message: `${names} were learnt on different models` })
    }
    if (version.scope !== scope) {
      return fail({
        reason: 'scopes_differ',
        message: `${names} have different scopes (${scope}, ${version.scope})`,
      })
    }
    if (version.labels !== null && !isSameSet(version.labels, labels)) {
      return fail({ reason: 'labels_differ', message: `${names} have different labels` })
    }
  }
  const bias = composeBias(terms, labels)
  return ok({
    expression: formatSelection(terms.map(({ term }) => term)),
    terms,
    arm: { adapters: sumWeights(terms), scope, ...(bias === null ? {} : { bias }) },
    frame: { instructions, position },
    labels,
    ...calibrationOf(terms),
    model,
    modelDigest,
  })
}

/**
 * A version's temperature was fitted at its full strength; it does not hold for a sum of versions.
 */
function calibrationOf(
  terms: readonly ResolvedTerm[],
): Pick<ResolvedSelection, 'temperature' | 'confidence'> {
  const [first, ...others] = terms
  if (first === undefined || others.length > 0 || first.term.weight !== 1) {
    return { temperature: 1, confidence: null }
  }
  const { temperature, minConfidence, fallbackLabel } = first.version
  return {
    temperature: temperature ?? 1,
    confidence: minConfidence === null ? null : { min: minConfidence, fallbackLabel },
  }
}

function isSameSet(a: readonly string[], b: readonly string[] | null): boolean {
  return b !== null && a.length === b.length && a.every((label) => b.includes(label))
}

function sumWeights(terms: readonly ResolvedTerm[]): Arm['adapters'] {
  const weights = new Map<string, number>()
  for (const { term, version } of terms) {
    const digest = version.adapterDigest
    if (digest === null) continue
    weights.set(digest, (weights.get(digest) ?? 0) + term.weight)
  }
  return Array.from(weights, ([digest, weight]) => ({ digest, weight }))
}

/** @returns null if no term has a bias, or if the biases cancel */
function composeBias(
  terms: readonly ResolvedTerm[],
  labels: readonly string[] | null,
): number[] | null {
  if (labels === null) return null
  const total = labels.map(() => 0)
  for (const { term, version } of terms) {
    if (version.bias === null || version.labels === null) continue
    version.labels.forEach((label, i) => {
      total[labels.indexOf(label)]! += term.weight * version.bias![i]!
    })
  }
  return total.some((value) => value !== 0) ? total : null
}

/**
 * The layers that a runner must say it rotates: exactly these for one adapter, at most these for a
 * sum.
 */
export function expectedLayers(
  arm: Arm,
  terms: readonly ResolvedTerm[],
): { readonly layers: readonly number[]; readonly exact: boolean } {
  const active = new Set(arm.adapters.filter((a) => a.weight !== 0).map((a) => a.digest))
  const layers = new Set<number>()
  for (const { version } of terms) {
    if (version.adapterDigest === null || !active.has(version.adapterDigest)) continue
    version.layers.forEach((layer) => layers.add(layer))
  }
  return { layers: [...layers].sort((a, b) => a - b), exact: active.size <= 1 }
}

const BASE_SCOPE: Scope = 'generated'
export const baseArm = (): Arm => ({ adapters: [], scope: BASE_SCOPE })
