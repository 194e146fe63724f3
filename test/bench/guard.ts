/**
 * How often the guard publishes: jobs by gradient on news lines, through the real scorer in this
 * process. Labels are shuffled, so that whatever is published is an error; with `--labels true` they
 * are right, and what is not published is a gain missed.
 *
 * `--jobs N` (20), `--first N` (0) the first job's seed, `--rows N` (20), `--labels shuffled|true`,
 * `--seconds N` (280) after which no further job begins
 */
import { createHash } from 'node:crypto'
import { parseArgs } from 'node:util'
import { encodeAdapter, decodeAdapter } from '../../adapters/format/adapter-file.ts'
import { predictOutOfFold } from '../../adapters/guard/out-of-fold.ts'
import { judge, type Verdict } from '../../adapters/guard/verdict.ts'
import { biasedMeanLogProb } from '../../adapters/objective/label-bias.ts'
import {
  GradientSearch,
  type GradientAnswer,
  type GradientQuery,
} from '../../adapters/optimise/gradient/gradient.ts'
import { createRng, permutation } from '../../adapters/optimise/rng.ts'
import { identityRotation, touchedLayers, type Rotation } from '../../adapters/rotation/rotation.ts'
import type { Runner } from '../../gpu-runner/runner.ts'
import type { TokenisedDataset } from '../../gpu-runner/scoring/dataset-store.ts'
import { LABELS, readNews, type NewsLine } from '../../src/cli/demo/news.ts'
import { packCandidates } from '../../src/jobs/pack-candidates.ts'
import type { Dataset } from '../../src/protocol/runner-scoring.ts'
import { NEWS_INSTRUCTIONS } from '../fixtures/api.ts'
import { MODEL_DIGEST, openTestRunner } from '../fixtures/runner.ts'

const never = (): boolean => false

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      jobs: { type: 'string', default: '20' },
      first: { type: 'string', default: '0' },
      rows: { type: 'string', default: '20' },
      labels: { type: 'string', default: 'shuffled' },
      seconds: { type: 'string', default: '280' },
    },
  })
  const startedAtMs = performance.now()
  const news = await readNews()
  const runner = await openTestRunner()
  const counts = new Map<string, number>()
  let numJobs = 0
  try {
    for (let i = 0; i < Number(values.jobs); i++) {
      if (performance.now() - startedAtMs > 1000 * Number(values.seconds)) break
      const seed = Number(values.first) + i
      const jobStartedAtMs = performance.now()
      const lines = drawLines(news, Number(values.rows), seed, values.labels === 'shuffled')
      const { verdict, numSteps } = await judgeJob(runner, lines, seed)
      numJobs++
      const what = `${verdict.outcome}${verdict.answer === null ? '' : ` ${verdict.answer}`}`
      counts.set(what, (counts.get(what) ?? 0) + 1)
      const { adapter, biasOnly } = verdict
      console.log(
        JSON.stringify({
          seed,
          outcome: verdict.outcome,
          answer: verdict.answer,
          adapter: {
            p: round(adapter.pValue),
            gain: round(adapter.gain),
            against: adapter.against,
          },
          bias_only: { p: round(biasOnly.pValue), gain: round(biasOnly.gain) },
          steps: numSteps,
          seconds: round((performance.now() - jobStartedAtMs) / 1000),
        }),
      )
    }
  } finally {
    await runner.release()
  }
  console.log(
    JSON.stringify({ labels: values.labels, jobs: numJobs, outcomes: Object.fromEntries(counts) }),
  )
}

/** As many lines of each label as there are of the others; shuffling keeps how often each occurs. */
function drawLines(
  news: readonly NewsLine[],
  count: number,
  seed: number,
  isShuffled: boolean,
): NewsLine[] {
  const rng = createRng(seed, 31)
  const drawn = LABELS.flatMap((label) => {
    const own = news.filter((line) => line.label === label)
    const places = permutation(own.length, rng).slice(0, Math.floor(count / LABELS.length))
    return places.map((place) => own[place]!)
  })
  const order = permutation(drawn.length, rng)
  const labels = drawn.map(({ label }) => label)
  return drawn.map((line, i) => (isShuffled ? { ...line, label: labels[order[i]!]! } : line))
}

/** One job as the gateway runs it: search, folds, verdict. */
async function judgeJob(
  runner: Runner,
  lines: readonly NewsLine[],
  seed: number,
): Promise<{ readonly verdict: Verdict; readonly numSteps: number }> {
  const { numLayers, numHeads, headDim } = runner.config
  const geometry = { numLayers, numHeads, headDim }
  const gold = lines.map(({ label }) => LABELS.indexOf(label))
  const groups = gold.map((_, example) => example)
  const dataset = putDataset(runner, lines, gold)
  const search = new GradientSearch({ geometry, gold, groups, seed })
  let state = search.start()
  for (let query = search.ask(state); query !== null; query = search.ask(state)) {
    state = search.tell(state, await differentiate(runner, dataset, query))
  }
  const stored = (rotation: Rotation): Rotation => {
    const file = { modelDigest: MODEL_DIGEST, scope: 'generated', rotation, dtype: 'F16' } as const
    const decoded = decodeAdapter(encodeAdapter(file), geometry)
    if (!decoded.ok) throw new Error(decoded.error.message)
    return decoded.value.rotation
  }
  const own = stored(search.best(state))
  const rotations = [identityRotation(geometry), own, ...search.foldRotations(state).map(stored)]
  const { header, values } = packCandidates(rotations, geometry, {
    dataset: dataset.digest,
    scope: 'generated',
  })
  const scores = await runner.scorer.score(dataset, header, values, never)
  const [base, fitted, ...candidates] = scores as [number[][], number[][], ...number[][][]]
  const hasAdapter =
    touchedLayers(own).length > 0 && biasedMeanLogProb(fitted, gold) > biasedMeanLogProb(base, gold)
  const predictions = predictOutOfFold({ gold, folds: search.folds, base, candidates })
  return {
    verdict: judge(predictions, gold, { groups, hasAdapter }),
    numSteps: state.history.length - 1,
  }
}

function putDataset(
  runner: Runner,
  lines: readonly NewsLine[],
  gold: readonly number[],
): TokenisedDataset {
  const content: Dataset = {
    labels: [...LABELS],
    examples: lines.map(({ input }, i) => ({
      messages: [
        { role: 'system', content: NEWS_INSTRUCTIONS },
        { role: 'user', content: input },
      ],
      label: gold[i]!,
    })),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(content))
  return runner.datasets.put(createHash('sha256').update(bytes).digest('hex'), bytes)
}

async function differentiate(
  runner: Runner,
  dataset: TokenisedDataset,
  { numCandidates, layers, hasLogScale, values, weights }: GradientQuery,
): Promise<GradientAnswer> {
  const header = {
    dataset: dataset.digest,
    num_candidates: numCandidates,
    layers: [...layers],
    has_log_scale: hasLogScale,
  }
  const body = new Float32Array(values.length + weights.length)
  body.set(values)
  body.set(weights, values.length)
  return runner.gradients.gradient(dataset, header, body, never)
}

const round = (value: number): number => Math.round(value * 1000) / 1000
