import type { Applied, GenerateEvent, GenerateRequest } from '../protocol/runner.ts'
import { findProofMismatch, isSameApplied, type ExpectedProof } from './proof.ts'
import { outOfOrder, RunnerCallFailure, RunnerRefusal, wrongProof } from './runner-failure.ts'

/** A log of a probability may be rounded to a little above 0, and probabilities to a sum beside 1. */
const TOLERANCE = 1e-3

type ArmRecord = {
  readonly applied: Applied
  readonly promptTokens: number
  numTokens: number
  hasEnded: boolean
}

/**
 * Passes events on as long as they follow the protocol: each arm is admitted with the expected proof
 * before its first token, its end repeats that proof, and `done` follows the last end. What an event
 * says must be possible for the request: no more tokens than it allows, its own labels,
 * probabilities, and a usage that agrees with the events before.
 * @param release called once, however the events end
 * @throws {RunnerRefusal | RunnerCallFailure}
 */
export async function* checkEvents(
  raw: AsyncGenerator<GenerateEvent>,
  {
    request,
    expected,
  }: { readonly request: GenerateRequest; readonly expected: readonly ExpectedProof[] },
  release: () => void,
): AsyncGenerator<GenerateEvent> {
  const arms = new Map<number, ArmRecord>()
  try {
    for await (const event of raw) {
      if (event.event === 'error') throw new RunnerRefusal(event.error)
      if (event.event === 'done') {
        const numEnded = [...arms.values()].filter(({ hasEnded }) => hasEnded).length
        if (numEnded !== expected.length) throw outOfOrder('an arm never ended')
        yield event
        return
      }
      const proof = expected[event.arm]
      const arm = arms.get(event.arm)
      if (proof === undefined || arm?.hasEnded === true) throw outOfOrder(`arm ${event.arm}`)
      if (event.event === 'accepted') {
        if (arm !== undefined) throw outOfOrder('admitted twice')
        const mismatch = findProofMismatch(proof, event.applied)
        if (mismatch !== null) throw wrongProof(mismatch)
        const { applied, prompt_tokens: promptTokens } = event
        arms.set(event.arm, { applied, promptTokens, numTokens: 0, hasEnded: false })
      } else if (arm === undefined) {
        throw outOfOrder('no admission')
      } else {
        checkEvent(event, arm, request)
      }
      yield event
    }
    throw new RunnerCallFailure('died', 'runner stream ended without its terminal frame')
  } finally {
    release()
    await raw.return(undefined)
  }
}

function checkEvent(
  event: Exclude<GenerateEvent, { event: 'accepted' | 'error' | 'done' }>,
  arm: ArmRecord,
  { sampling, choice }: GenerateRequest,
): void {
  const { max_tokens: maxTokens = Infinity } = sampling
  if (event.event === 'token') {
    const { ids, logprobs = [] } = event
    arm.numTokens += ids.length
    // A label is written whole, however many tokens it has.
    if (choice === undefined && arm.numTokens > maxTokens) {
      throw new RunnerCallFailure('oversized', `more than ${maxTokens} tokens were generated`)
    }
    if (logprobs.some(({ logprob }) => logprob > TOLERANCE)) throw contradiction('a logprob')
  } else if (event.event === 'labels') {
    const { labels } = event
    const isAsked =
      labels.length === choice?.labels.length &&
      labels.every(({ label }, i) => label === choice.labels[i])
    if (!isAsked) throw contradiction('labels that were not asked for')
    const sum = labels.reduce((total, { probability }) => total + probability, 0)
    const isDistribution = labels.every(({ probability }) => probability >= 0)
    if (!isDistribution || Math.abs(sum - 1) > TOLERANCE) throw contradiction('probabilities')
  } else if (event.event === 'end') {
    if (!isSameApplied(arm.applied, event.applied)) throw wrongProof('changed during the answer')
    const { prompt_tokens: prompt, completion_tokens: completion, cached_tokens } = event.usage
    const isPossible =
      prompt === arm.promptTokens &&
      cached_tokens >= 0 &&
      cached_tokens <= prompt &&
      completion >= 0 &&
      (choice !== undefined || completion <= maxTokens)
    if (!isPossible) throw contradiction('usage')
    arm.hasEnded = true
  }
}

const contradiction = (what: string) =>
  new RunnerCallFailure('malformed', `runner's answer has impossible values: ${what}`)
