import type { GradientAnswer, GradientQuery } from '../../adapters/optimise/gradient/gradient.ts'
import { RunnerCallFailure } from '../dispatch/runner-client.ts'
import type { GradientHeader } from '../protocol/runner-scoring.ts'
import {
  exampleOrder,
  GROUP_LEN,
  isInOrder,
  rowsPerCall,
  withDataset,
  type Evaluation,
} from './evaluate.ts'

/**
 * Has a runner answer a gradient query. Losses and gradients are sums over examples, so it asks
 * about some examples at a time and adds up the answers.
 * @param examples those to differentiate, by index; the others get NaN for a log probability and
 * add nothing to the gradient
 * @throws {RunnerRefusal | RunnerCallFailure}
 */
export async function differentiate(
  evaluation: Evaluation,
  query: GradientQuery,
  examples: readonly number[] = exampleOrder(evaluation),
): Promise<GradientAnswer> {
  const numExamples = evaluation.dataset.gold.length
  const { numCandidates } = query
  const perCall = countPerCall(query, numExamples, rowsPerCall(evaluation))
  const logProbs = new Float32Array(numCandidates * numExamples).fill(NaN)
  const gradient = new Float32Array(query.values.length)
  const wanted = query.examples === null ? null : new Set(query.examples)
  for (let from = 0; from < examples.length; from += perCall) {
    const called = examples.slice(from, from + perCall)
    if (wanted !== null && !called.some((example) => wanted.has(example))) continue
    const part = await differentiateOnce(evaluation, query, called)
    for (let candidate = 0; candidate < numCandidates; candidate++) {
      for (const [i, example] of called.entries()) {
        logProbs[candidate * numExamples + example] = part.logProbs[candidate * called.length + i]!
      }
    }
    for (let i = 0; i < gradient.length; i++) gradient[i]! += part.gradient[i]!
  }
  return { logProbs, gradient }
}

/** How many examples one call may hold, given the rows that each takes. */
function countPerCall(
  { numCandidates, weights, skipsUnweighted }: GradientQuery,
  numExamples: number,
  maxRows: number,
): number {
  const numRows = weights.reduce((sum, weight) => sum + (weight === 0 ? 0 : 1), 0)
  const perExample = skipsUnweighted ? Math.ceil(numRows / numExamples) : numCandidates
  const fitting = Math.floor(maxRows / Math.max(1, perExample))
  return fitting < GROUP_LEN ? Math.max(1, fitting) : fitting - (fitting % GROUP_LEN)
}

async function differentiateOnce(
  evaluation: Evaluation,
  { numCandidates, layers, hasLogScale, values, weights, ...query }: GradientQuery,
  examples: readonly number[],
): Promise<GradientAnswer> {
  const { client, dataset, buildDigest, signal } = evaluation
  const numExamples = dataset.gold.length
  const header: GradientHeader = {
    dataset: dataset.digest,
    build_digest: buildDigest,
    num_candidates: numCandidates,
    layers: [...layers],
    has_log_scale: hasLogScale,
    ...(isInOrder(examples, numExamples) ? {} : { examples: [...examples] }),
    ...(query.examples === null
      ? {}
      : { computed_examples: query.examples.filter((example) => examples.includes(example)) }),
    ...(query.skipsUnweighted ? { skip_unweighted: true } : {}),
    ...(query.promptDropout === undefined ? {} : { prompt_dropout: query.promptDropout }),
  }
  const body = new Float32Array(values.length + numCandidates * examples.length)
  body.set(values)
  for (let candidate = 0; candidate < numCandidates; candidate++) {
    for (const [i, example] of examples.entries()) {
      body[values.length + candidate * examples.length + i] =
        weights[candidate * numExamples + example]!
    }
  }
  const answer = await withDataset(evaluation, () => client.gradient(header, body, signal))
  if (answer.header.build_digest !== buildDigest) {
    throw new RunnerCallFailure('malformed', 'the runner computed the gradient on another build')
  }
  if (answer.header.num_examples !== examples.length) {
    throw new RunnerCallFailure('malformed', 'the runner computed the gradient of other examples')
  }
  return answer
}
