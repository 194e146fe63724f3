import { predictOutOfFold } from '../../adapters/guard/out-of-fold.ts'
import { judge } from '../../adapters/guard/verdict.ts'
import { biasedMeanLogProb, fitLabelBias } from '../../adapters/objective/label-bias.ts'
import { applyBias } from '../../adapters/objective/label-log-probs.ts'
import { applyTemperature } from '../../adapters/objective/temperature.ts'
import { identityRotation, touchedLayers, type Rotation } from '../../adapters/rotation/rotation.ts'
import type { JobReport } from '../protocol/openai/job-report.ts'
import { adapterKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { guardFolds } from './guard-folds.ts'
import { startRepeats, wantsRepeats } from './guard-repeats.ts'
import { reportGuard } from './guard-report.ts'
import type { PinnedModel } from './job-spec.ts'
import { describeVersion } from './new-version.ts'
import { conclude, decide } from './outcome.ts'
import { reportExamples, reportKnowledge, type ScoredExamples } from './report.ts'
import { scoreOnRunner } from './scores.ts'
import { collectOutcome, describeSearch } from './search-outcome.ts'
import { message } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'
import { warnOfChance } from './warnings.ts'

/**
 * Reports a job on labels. The guard may find that a rotation helps, a label bias alone, or
 * nothing.
 */
export async function reportLabels(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, env } = context
  const { gold } = spec.training
  const identity = identityRotation(pinned.geometry)
  const {
    best,
    bytes,
    stored,
    outOfFold: foldRotations,
    ...found
  } = collectOutcome(context, pinned)

  const [base, own, ...candidates] = (await scoreOnRunner(context, pinned, spec.training, [
    identity,
    stored,
    ...foldRotations,
  ])) as [number[][], number[][], ...number[][][]]
  const baseValue = biasedMeanLogProb(base, gold)
  const adapterValue = biasedMeanLogProb(own, gold)
  const hasAdapter = touchedLayers(stored).length > 0 && adapterValue > baseValue
  const folds = guardFolds(context)
  const outOfFold = predictOutOfFold({ gold, folds, base, candidates })
  const { repeats = [] } = context.state
  const verdict = judge(outOfFold, gold, { folds, groups: spec.groups, hasAdapter, repeats })
  if (wantsRepeats(context, verdict)) return startRepeats(verdict)
  const decision = decide(spec, verdict.outcome, hasAdapter)
  const whenForced = hasAdapter ? 'adapter' : 'bias_only'
  const answer = decision.isUnheld ? whenForced : (verdict.answer ?? whenForced)
  const isAdapter = answer === 'adapter'

  const bias = fitLabelBias(isAdapter ? own : base, gold)
  const temperature = outOfFold.temperatures[isAdapter ? 'adapter' : 'biasOnly']
  const asServed = (examples: ScoredExamples): ScoredExamples => ({
    ...examples,
    adapter: applyTemperature(
      applyBias(isAdapter ? examples.adapter : examples.base, bias),
      temperature,
    ),
  })
  const validation = await scoreValidation(context, pinned, [identity, stored])
  const layers = isAdapter ? touchedLayers(stored) : []
  const adapterDigest = isAdapter ? await sha256Hex(bytes) : null
  const guard = reportGuard({
    verdict,
    answer,
    isEnforced: spec.guard === 'enforce',
    isForced: decision.isForced,
    outOfFold,
    gold,
    numFolds: candidates.length,
    trialsPerFold: found.trialsPerFold,
  })
  const knowledge = reportKnowledge(
    { logProbs: base, gold },
    spec.groups,
    validation === null ? null : { logProbs: validation.base, gold: validation.gold },
  )
  const chance = warnOfChance(knowledge, guard)
  const warned = chance === null ? [] : [message(chance.message, 'warn')]
  const report: JobReport = {
    guard,
    base_knowledge: knowledge,
    warnings: chance === null ? spec.warnings : [...spec.warnings, chance],
    ...describeSearch(context, pinned, best),
    labels: spec.labels,
    layers,
    adapter_digest: adapterDigest,
    base_value: baseValue,
    adapter_value: adapterValue,
    bias,
    temperature,
    train: reportExamples(asServed({ gold, base, adapter: own }), base),
    validation: validation === null ? null : reportExamples(asServed(validation), base),
  }
  const version = await describeVersion(context, pinned, {
    adapterDigest,
    layers,
    bias,
    temperature,
  })
  if (adapterDigest !== null) await env.BLOBS.put(adapterKey(spec.projectId, adapterDigest), bytes)
  const next = conclude(decision, { version, report }, guard)
  return { ...next, events: [...warned, ...(next.events ?? [])] }
}

async function scoreValidation(
  context: StepContext,
  pinned: PinnedModel,
  rotations: readonly [Rotation, Rotation],
): Promise<ScoredExamples | null> {
  const { validation } = context.spec
  if (validation === null) return null
  const [base, adapter] = await scoreOnRunner(context, pinned, validation, rotations)
  return { gold: validation.gold, base: base!, adapter: adapter! }
}
