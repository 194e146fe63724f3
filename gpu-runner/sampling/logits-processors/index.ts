import type { Sampling } from '../../../src/protocol/runner.ts'
import { logitBias } from './logit-bias.ts'
import type { LogitsProcessor } from './logits-processor.ts'
import { presenceFrequencyPenalty } from './presence-frequency-penalty.ts'
import { repetitionPenalty } from './repetition-penalty.ts'

export type { LogitsProcessor } from './logits-processor.ts'
export { TokenHistory } from './token-history.ts'

type Processed = Pick<
  Sampling,
  'logit_bias' | 'repetition_penalty' | 'presence_penalty' | 'frequency_penalty'
>

/**
 * The processors that a request asks for, in vLLM's order: logit bias, repetition penalty, presence and
 * frequency penalties. Temperature, min_p, top_k and top_p follow in the sampler.
 */
export function createLogitsProcessors(sampling: Processed): readonly LogitsProcessor[] {
  const {
    logit_bias: bias = [],
    repetition_penalty: repetition = 1,
    presence_penalty: presence = 0,
    frequency_penalty: frequency = 0,
  } = sampling
  return [
    ...(bias.length > 0 ? [logitBias(bias)] : []),
    ...(repetition !== 1 ? [repetitionPenalty(repetition)] : []),
    ...(presence !== 0 || frequency !== 0 ? [presenceFrequencyPenalty(presence, frequency)] : []),
  ]
}
