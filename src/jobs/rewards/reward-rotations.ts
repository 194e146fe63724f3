import type { Rotation } from '../../../adapters/rotation/rotation.ts'
import { readBlob } from '../../storage/blobs.ts'
import type { RewardSet } from '../dataset.ts'
import type { PinnedModel, StoredDataset } from '../job-spec.ts'
import type { StepContext } from '../step-context.ts'
import { generateTexts } from './generate-texts.ts'
import { gradeTexts } from './grade-texts.ts'

/** What came of the prompts of a set, [candidate][example]. */
export type Rewarded = {
  readonly inputs: readonly string[]
  readonly texts: readonly (readonly string[])[]
  readonly scores: readonly (readonly number[])[]
}

/**
 * Generates an answer to each prompt under each rotation and has them graded. Seeds are the job's and
 * the examples', so the same rotations give the same texts again.
 * @throws {JobFailure} the grader cannot be used; {RunnerRefusal | RunnerFault}
 */
export async function rewardRotations(
  context: StepContext,
  pinned: PinnedModel,
  dataset: StoredDataset,
  rotations: readonly Rotation[],
): Promise<Rewarded> {
  const bytes = await readBlob(context.env.BLOBS, dataset.blobKey)
  if (bytes === null) throw new Error(`dataset blob ${dataset.blobKey} is missing`)
  const { examples } = JSON.parse(new TextDecoder().decode(bytes)) as RewardSet
  const prompts = examples.map(({ messages }) => messages)
  const texts = await generateTexts(context, pinned, prompts, rotations)
  const items = texts.flatMap((answers) =>
    answers.map((output, example) => {
      const { input, target } = examples[example]!
      return { input, output, target }
    }),
  )
  const flat = await gradeTexts(context, items)
  const scores = texts.map((answers, candidate) =>
    flat.slice(candidate * answers.length, (candidate + 1) * answers.length),
  )
  return { inputs: examples.map(({ input }) => input), texts, scores }
}
