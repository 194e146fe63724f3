import { batchesQuerySchema, createBatchSchema } from '../../protocol/openai/batches.ts'
import { batch } from '../answers/batch.ts'
import { pageOf } from '../answers/common.ts'
import { json, type Operation } from '../operation.ts'

const tag = 'Batches'

export const batches: readonly Operation[] = [
  {
    method: 'POST',
    path: '/v1/batches',
    id: 'createBatch',
    tag,
    summary: 'Answer a file of requests when there is room',
    description: 'The file has the purpose `batch`. Its requests run at tier `flex`.',
    body: { kind: 'json', name: 'CreateBatch', schema: createBatchSchema },
    answer: json('Batch', batch),
  },
  {
    method: 'GET',
    path: '/v1/batches',
    id: 'listBatches',
    tag,
    summary: 'List batches',
    query: batchesQuerySchema,
    answer: json('BatchList', pageOf(batch)),
  },
  {
    method: 'GET',
    path: '/v1/batches/:id',
    id: 'getBatch',
    tag,
    summary: 'Get a batch',
    answer: json('Batch', batch),
  },
  {
    method: 'POST',
    path: '/v1/batches/:id/cancel',
    id: 'cancelBatch',
    tag,
    summary: 'Cancel a batch',
    description: 'Requests that run are answered to their end; their answers are kept.',
    answer: json('Batch', batch),
    errors: [409],
  },
]
