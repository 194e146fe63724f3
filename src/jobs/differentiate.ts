import type { GradientAnswer, GradientQuery } from '../../adapters/optimise/gradient/gradient.ts'
import { RunnerFault } from '../dispatch/runner-client.ts'
import type { GradientHeader } from '../protocol/runner.ts'
import { MAX_ROWS_PER_CALL, withDataset, type Evaluation } from './evaluate.ts'

/**
 * Answers a query by a runner, in calls of some examples each: losses and gradients are sums over
 * examples, so the parts add up.
 * @throws {RunnerRefusal | RunnerFault}
 */
export async function differentiate(
  evaluation: Evaluation,
  query: GradientQuery,
): Promise<GradientAnswer> {
  const numExamples = evaluation.dataset.gold.length
  const { numCandidates } = query
  const perCall = Math.max(1, Math.floor(MAX_ROWS_PER_CALL / numCandidates))
  const logProbs = new Float32Array(numCandidates * numExamples)
  const gradient = new Float32Array(query.values.length)
  for (let from = 0; from < numExamples; from += perCall) {
    const to = Math.min(from + perCall, numExamples)
    const part = await differentiateOnce(evaluation, query, from, to)
    for (let candidate = 0; candidate < numCandidates; candidate++) {
      const row = part.logProbs.subarray(candidate * (to - from), (candidate + 1) * (to - from))
      logProbs.set(row, candidate * numExamples + from)
    }
    for (let i = 0; i < gradient.length; i++) gradient[i]! += part.gradient[i]!
  }
  return { logProbs, gradient }
}

async function differentiateOnce(
  evaluation: Evaluation,
  { numCandidates, layers, hasLogScale, values, weights }: GradientQuery,
  from: number,
  to: number,
): Promise<GradientAnswer> {
  const { client, dataset, buildDigest, signal } = evaluation
  const numExamples = dataset.gold.length
  const header: GradientHeader = {
    dataset: dataset.digest,
    build_digest: buildDigest,
    num_candidates: numCandidates,
    layers: [...layers],
    has_log_scale: hasLogScale,
    ...(to - from === numExamples
      ? {}
      : { examples: Array.from({ length: to - from }, (_, i) => from + i) }),
  }
  const body = new Float32Array(values.length + numCandidates * (to - from))
  body.set(values)
  for (let candidate = 0; candidate < numCandidates; candidate++) {
    const row = weights.subarray(candidate * numExamples + from, candidate * numExamples + to)
    body.set(row, values.length + candidate * (to - from))
  }
  const answer = await withDataset(evaluation, () => client.gradient(header, body, signal))
  if (answer.header.build_digest !== buildDigest) {
    throw new RunnerFault('protocol', 'the gradient is of another build than was asked for')
  }
  if (answer.header.num_examples !== to - from) {
    throw new RunnerFault('protocol', 'the gradient is of other examples than were asked for')
  }
  return answer
}
