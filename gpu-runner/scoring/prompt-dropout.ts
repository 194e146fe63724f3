import { createRng } from '../../adapters/optimise/rng.ts'
import type { GradientHeader } from '../../src/protocol/runner-scoring.ts'

type PromptDropout = NonNullable<GradientHeader['prompt_dropout']>

/**
 * Which of a prompt's tokens a step does without: a rotation then cannot lean on single words of so few
 * examples (docs/decisions/0020-prompt-dropout.md). A pure function of its arguments.
 * @param own first token that is the prompt's own, and the first after them that is not
 * @param row whose step it is: the example's index in the dataset, and the candidate's
 * @returns places in the prompt, ascending; none where it would be all
 */
export function dropPromptTokens(
  [start, end]: readonly [number, number],
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
