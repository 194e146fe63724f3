import { createRng } from '../../adapters/optimise/rng.ts'
import type { GradientHeader } from '../../src/protocol/runner-scoring.ts'

type PromptDropout = NonNullable<GradientHeader['prompt_dropout']>

/**
 * Chooses the prompt tokens that one training step ignores, so that a rotation cannot rely on single
 * words of a few examples (docs/decisions/0020-prompt-dropout.md). A pure function of its arguments.
 * @param range [start, end) of the prompt's own tokens, which not all prompts share
 * @param row the example's index in the dataset, and the candidate's
 * @returns positions in the prompt, ascending; none where all would be dropped
 */
export function dropPromptTokens(
  [start, end]: readonly [start: number, end: number],
  row: readonly [example: number, candidate: number],
  { share, seed }: PromptDropout,
): number[] {
  const { uniform } = createRng(seed, ...row)
  const dropped: number[] = []
  for (let place = start; place < end; place++) {
    if (uniform() < share) dropped.push(place)
  }
  return dropped.length === end - start ? [] : dropped
}
