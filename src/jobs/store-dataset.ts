import type { Dataset } from '../protocol/runner-scoring.ts'
import { sha256Hex } from '../storage/digest.ts'
import type { StoredDataset } from './job-spec.ts'
import type { RewardSet } from './rewards/reward-set.ts'

/** Writes examples to the bucket in the form in which a runner, or a grader's job, reads them. */
export async function storeDataset(
  bucket: R2Bucket,
  blobKey: string,
  dataset: Dataset | RewardSet,
): Promise<StoredDataset> {
  const bytes = new TextEncoder().encode(JSON.stringify(dataset))
  await bucket.put(blobKey, bytes)
  return {
    blobKey,
    digest: await sha256Hex(bytes),
    gold:
      'labels' in dataset
        ? dataset.examples.map(({ label }) => label)
        : dataset.examples.map(() => 0),
  }
}
