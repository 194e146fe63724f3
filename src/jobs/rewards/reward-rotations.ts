import type { Rotation } from '../../../adapters/rotation/rotation.ts'
import { readBlob } from '../../storage/blobs.ts'
import type { PinnedModel, StoredDataset } from '../job-spec.ts'
import type { StepContext } from '../step.ts'
import { generateTexts, type GeneratedText, type WantedText } from './generate-texts.ts'
import { gradeTexts } from './grade-texts.ts'
import type { RewardSet } from './reward-set.ts'

/** The graded texts of a set's prompts, as [candidate][example]. */
export type Rewarded = {
  readonly inputs: readonly string[]
  /** The first text of each candidate and example, and its score below. */
  readonly texts: readonly (readonly string[])[]
  readonly firstScores: readonly (readonly number[])[]
  /** The mean scores of all texts of each candidate and example. */
  readonly scores: readonly (readonly number[])[]
}

/**
 * Generates answers to each prompt under each rotation and has them graded. Seeds follow from the
 * job and the example, so a repeated call gives the same texts.
 * @param numDraws how many texts to draw for each prompt and rotation
 * @throws {JobFailure} the grader failed; {RunnerRefusal | RunnerCallFailure}
 */
export async function rewardRotations(
  context: StepContext,
  pinned: PinnedModel,
  dataset: StoredDataset,
  rotations: readonly Rotation[],
  numDraws = 1,
): Promise<Rewarded> {
  const set = await readRewardSet(context, dataset)
  const numExamples = set.examples.length
  const wanted = rotations.flatMap((_, rotation) =>
    set.examples.flatMap((_, prompt) =>
      // Searches count their draws up from 1. These count down from 0, so that no text is one by
      // which
      // a search has chosen.
      Array.from({ length: numDraws }, (_, i): WantedText => ({ rotation, prompt, draw: -i })),
    ),
  )
  const { texts, scores } = await gradeWanted(context, pinned, set, rotations, wanted)
  const place = (rotation: number, example: number) => (rotation * numExamples + example) * numDraws
  const map = <T>(of: (from: number) => T): T[][] =>
    rotations.map((_, rotation) => set.examples.map((_, example) => of(place(rotation, example))))
  return {
    inputs: set.examples.map(({ input }) => input),
    texts: map((from) => texts[from]!.text),
    firstScores: map((from) => scores[from]!),
    scores: map((from) => {
      const own = scores.slice(from, from + numDraws)
      return own.reduce((sum, score) => sum + score, 0) / numDraws
    }),
  }
}

/**
 * Generates texts and has them graded.
 * @returns the texts and their scores in the order of `wanted`
 * @throws the same as {@link rewardRotations}
 */
export async function gradeWanted(
  context: StepContext,
  pinned: PinnedModel,
  { examples }: RewardSet,
  rotations: readonly Rotation[],
  wanted: readonly WantedText[],
): Promise<{ readonly texts: readonly GeneratedText[]; readonly scores: readonly number[] }> {
  const prompts = examples.map(({ messages }) => messages)
  const texts = await generateTexts(context, pinned, prompts, rotations, wanted)
  const items = texts.map(({ text }, i) => {
    const { input, target } = examples[wanted[i]!.prompt]!
    return { input, output: text, target }
  })
  return { texts, scores: await gradeTexts(context, items) }
}

/** Reads the stored prompts of a job with a grader. */
export async function readRewardSet(
  { env }: StepContext,
  { blobKey, digest }: StoredDataset,
): Promise<RewardSet> {
  const bytes = await readBlob(env.BLOBS, blobKey, digest)
  if (bytes === null) throw new Error(`dataset blob ${blobKey} is missing`)
  return JSON.parse(new TextDecoder().decode(bytes)) as RewardSet
}
