import { findFile } from '../db/files.ts'
import { findJob } from '../db/jobs.ts'
import type { Bindings } from '../env.ts'
import { readExamples, type NumberedExample } from '../files/read-examples.ts'
import type { FineTuningJob } from '../protocol/openai/fine-tuning.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'

/**
 * Counts the rows that a version's job learnt from. A task answers those better than rows that it has
 * not seen, so they say little about it.
 * @returns one for each arm; 0 for the base model, for an uploaded adapter, and where the job's
 * training file has been deleted
 */
export async function countSeenRows(
  env: Bindings,
  projectId: string,
  examples: readonly NumberedExample[],
  selections: readonly (ResolvedSelection | null)[],
): Promise<number[]> {
  const rows = examples.map(promptOf)
  const counts: number[] = []
  const known = new Map<string, readonly string[]>()
  for (const selection of selections) {
    const jobIds = new Set((selection?.terms ?? []).map(({ version }) => version.jobId))
    const learnt = new Set<string>()
    for (const jobId of jobIds) {
      const prompts = known.get(jobId) ?? (await promptsOf(env, projectId, jobId))
      known.set(jobId, prompts)
      for (const prompt of prompts) learnt.add(prompt)
    }
    counts.push(rows.filter((prompt) => learnt.has(prompt)).length)
  }
  return counts
}

const promptOf = ({ example }: NumberedExample): string => JSON.stringify(example.messages)

async function promptsOf(env: Bindings, projectId: string, jobId: string): Promise<string[]> {
  const job = await findJob(env.DB, projectId, jobId)
  if (job === null) return []
  const { training_file: fileId } = JSON.parse(job.object) as FineTuningJob
  const file = await findFile(env.DB, projectId, fileId)
  if (file === null) return []
  return (await readExamples(env.BLOBS, file.blobKey, 'file')).map(promptOf)
}
