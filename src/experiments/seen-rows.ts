import type { NumberedExample } from '../files/read-examples.ts'
import { datasetKey } from '../storage/blobs.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { applyFrame } from '../tasks/frame.ts'

/** The part of a job's stored examples that is read here. */
type LearntExamples = { readonly examples?: readonly { readonly messages?: unknown }[] }

/**
 * Counts the rows that a version's job learnt from. A task answers those better than rows that it has
 * not seen, so they say little about it.
 * @returns one for each arm; 0 for the base model, and where the job's examples are gone
 */
export function countSeenRows(
  bucket: R2Bucket,
  projectId: string,
  examples: readonly NumberedExample[],
  selections: readonly (ResolvedSelection | null)[],
): Promise<number[]> {
  return Promise.all(
    selections.map(async (selection) => {
      const seen = new Set<number>()
      for (const { version } of selection?.terms ?? []) {
        const object = await bucket.get(datasetKey(projectId, version.jobId, 'training'))
        if (object === null) continue
        const { examples: learnt = [] } = await object.json<LearntExamples>()
        const prompts = new Set(learnt.map(({ messages }) => JSON.stringify(messages)))
        const frame = { instructions: version.instructions, position: version.position }
        examples.forEach(({ example }, row) => {
          const prompt = JSON.stringify(applyFrame(frame, example.messages).messages)
          if (prompts.has(prompt)) seen.add(row)
        })
      }
      return seen.size
    }),
  )
}
