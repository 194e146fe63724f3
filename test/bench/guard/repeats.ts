/** Further partitions of kept jobs' examples, which the guard asks for where the first leaves a doubt. */
import { appendFile } from 'node:fs/promises'
import { predictOutOfFold } from '../../../adapters/guard/out-of-fold.ts'
import {
  FURTHER_PARTITIONS,
  MAX_REPEATED_INPUTS,
  type PartitionPredictions,
} from '../../../adapters/guard/repeats.ts'
import { leavesDoubt, type Verdict } from '../../../adapters/guard/verdict.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { drawBalanced } from '../tasks/draw.ts'
import { readRows, TASK_SETS } from '../tasks/sets.ts'
import { runPartition, type JobRecord, type Partition } from './jobs.ts'

/** A job's further partitions, by what tells jobs apart. */
export class KeptPartitions {
  readonly #known = new Map<string, Partition>()

  constructor(partitions: readonly Partition[] = []) {
    for (const partition of partitions) this.add(partition)
  }

  add(partition: Partition): void {
    this.#known.set(keyOf(partition, partition.gold.length, partition.partitionSeed), partition)
  }

  has(job: JobRecord, partitionSeed: number): boolean {
    return this.#known.has(keyOf(job, job.rows, partitionSeed))
  }

  /** The partitions that the gateway would judge a job by, beside its first; none if one is missing. */
  of(job: JobRecord, first: Verdict): PartitionPredictions[] {
    if (!isRepeated(job, first) || this.lacks(job, first)) return []
    return FURTHER_PARTITIONS.map(({ seedOffset }) => {
      const kept = this.#known.get(keyOf(job, job.rows, job.seed + seedOffset))!
      return { folds: kept.folds, predictions: predictOutOfFold(kept).adapter }
    })
  }

  /** Whether the gateway would divide a job's examples again, and that has not been done here. */
  lacks(job: JobRecord, first: Verdict): boolean {
    return (
      isRepeated(job, first) &&
      !FURTHER_PARTITIONS.every(({ seedOffset }) => this.has(job, job.seed + seedOffset))
    )
  }
}

const keyOf = (
  { set, seed, isShuffled }: Pick<JobRecord, 'set' | 'seed' | 'isShuffled'>,
  rows: number,
  partitionSeed: number,
): string => [set, seed, isShuffled, rows, partitionSeed].join(' ')

const isRepeated = ({ rows }: JobRecord, first: Verdict): boolean =>
  rows <= MAX_REPEATED_INPUTS && leavesDoubt(first)

/** Fits a job's examples in the further partitions that it lacks, and appends them to a file. */
export async function fitRepeats(
  runner: Runner,
  job: JobRecord,
  first: Verdict,
  { kept, out }: { readonly kept: KeptPartitions; readonly out: string },
): Promise<void> {
  if (!isRepeated(job, first)) return
  const { set, seed, rows, isShuffled } = job
  const words = Object.values(TASK_SETS[set]!.words)
  const train = drawBalanced(readRows(set, 'train')!, words, seed, rows)
  for (const { seedOffset, numFolds } of FURTHER_PARTITIONS) {
    if (kept.has(job, seed + seedOffset)) continue
    const draw = { set, seed, train, isShuffled }
    const partition = await runPartition(runner, draw, seed + seedOffset, numFolds)
    await appendFile(out, `${JSON.stringify(partition)}\n`)
    kept.add(partition)
  }
}
