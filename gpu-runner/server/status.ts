import { MAX_ADAPTER_BYTES } from '../../adapters/format/adapter-file.ts'
import { RUNNER_PROTOCOL_VERSION, type RunnerStatus } from '../../src/protocol/runner.ts'
import type { Runner } from '../runner.ts'

export type ServerIdentity = {
  readonly runnerId: string
  readonly secret: string
  readonly modelSlug: string
  readonly modelDigest: string
  readonly ortBackend: RunnerStatus['ort_backend']
}

/** What `GET /v1/status` answers. */
export function describeStatus(
  { config, context, engine, executor, adapters }: Runner,
  identity: ServerIdentity,
): RunnerStatus {
  return {
    protocol_version: RUNNER_PROTOCOL_VERSION,
    runner_id: identity.runnerId,
    model: {
      slug: identity.modelSlug,
      model_digest: context.modelDigest,
      build_digest: context.buildDigest,
      num_layers: config.numLayers,
      num_heads: config.numHeads,
      num_kv_heads: config.numKvHeads,
      head_dim: config.headDim,
      hidden_size: config.hidden,
      vocab_size: config.vocab,
      max_context: context.maxContext,
    },
    ort_backend: identity.ortBackend,
    limits: {
      max_rows: engine.options.maxNumSeqs,
      max_waiting: engine.options.maxWaiting,
      max_adapter_bytes: MAX_ADAPTER_BYTES,
      max_resident_adapters: adapters.maxResident,
      max_prefix_cache_bytes: engine.prefixCache.maxBytes,
    },
    prefix_cache: { bytes: engine.prefixCache.sizeBytes, blocks: engine.prefixCache.numBlocks },
    load: engine.load,
    job_share: { limit: executor.turns.jobShare, measured: executor.turns.measuredShare },
    resident_adapters: adapters.digests,
  }
}
