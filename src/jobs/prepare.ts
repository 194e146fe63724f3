import { pushDataset } from './evaluate.ts'
import type { PinnedModel, StoredDataset } from './job-spec.ts'
import { message, withRunner } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'

/** Pins the model that is served, and sends the examples to a runner. */
export async function prepare(context: StepContext): Promise<Transition> {
  const { spec, search, objective } = context
  return withRunner(context, async (runner) => {
    const { client } = runner
    const { model } = runner.status
    const push = (dataset: StoredDataset, use: 'score' | 'gradient') =>
      pushDataset({ client, blobs: context.env.BLOBS, dataset, signal: context.signal }, use)
    const resident = objective.usesDataset ? await push(spec.training, search.datasetUse) : null
    // Sent now, so that an over-long validation example fails the job before its search.
    const validation =
      objective.usesDataset && spec.validation !== null
        ? await push(spec.validation, 'score')
        : null
    const pinned: PinnedModel = {
      modelDigest: model.model_digest,
      buildDigest: model.build_digest,
      geometry: {
        numLayers: model.num_layers,
        numHeads: model.num_heads,
        headDim: model.head_dim,
      },
      promptTokens: resident?.prompt_tokens.total ?? 0,
      ...(resident?.target_tokens === undefined
        ? {}
        : {
            targetTokens: {
              training: resident.target_tokens,
              validation: validation?.target_tokens ?? [],
            },
          }),
    }
    return {
      state: {
        pinned,
        phase: 'searching',
        status: 'running',
        startedAtMs: context.state.startedAtMs ?? Date.now(),
      },
      events: [
        message(
          `Learning ${objective.describe(spec)} from ${spec.training.gold.length} examples ` +
            `with ${spec.optimiser}, ${search.describeBudget(spec)}.`,
        ),
      ],
    }
  })
}
