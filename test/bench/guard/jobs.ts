/** Runs jobs in this process and keeps everything that the guard needs to judge them again. */
import { createHash } from 'node:crypto'
import { decodeAdapter, encodeAdapter } from '../../../adapters/format/adapter-file.ts'
import type { LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'
import { AutoSearch } from '../../../adapters/optimise/auto/auto.ts'
import {
  GradientSearch,
  type GradientAnswer,
  type GradientQuery,
} from '../../../adapters/optimise/gradient/gradient.ts'
import { createRng, permutation } from '../../../adapters/optimise/rng.ts'
import {
  identityRotation,
  type Geometry,
  type Rotation,
} from '../../../adapters/rotation/rotation.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import type { TokenisedDataset } from '../../../gpu-runner/scoring/dataset-store.ts'
import { packCandidates } from '../../../src/jobs/pack-candidates.ts'
import type { Dataset } from '../../../src/protocol/runner-scoring.ts'
import { MODEL_DIGEST } from '../../fixtures/runner.ts'
import { TASK_SETS, type Row } from '../tasks/sets.ts'

/** One job's log probabilities, each [examples][labels]. */
export type JobRecord = {
  readonly set: string
  readonly seed: number
  readonly rows: number
  readonly isShuffled: boolean
  /** `gradient`, or `auto` and its budget. */
  readonly optimizer: string
  readonly seconds: number
  readonly gold: readonly number[]
  readonly folds: readonly number[]
  readonly base: LabelLogProbs
  readonly own: LabelLogProbs
  readonly candidates: readonly LabelLogProbs[]
  /** Validation rows that no job learns from; they measure the adapter's true gain. */
  readonly unseen: UnseenScores
  /** Test rows, only for the final figures. */
  readonly test?: UnseenScores
}

export type UnseenScores = {
  readonly gold: readonly number[]
  readonly base: LabelLogProbs
  readonly own: LabelLogProbs
}

export type Draw = {
  readonly set: string
  readonly seed: number
  readonly train: readonly Row[]
  readonly unseen: readonly Row[]
  /** Null if the job is not scored on test rows. */
  readonly test: readonly Row[] | null
  /** Whether the training rows' labels are shuffled. */
  readonly isShuffled: boolean
  /** Budget of `auto` in seconds; null for one fit by `gradient`. */
  readonly budgetSeconds: number | null
}

/** One job as the gateway runs it, to the point where the guard judges it. */
export async function runJob(runner: Runner, draw: Draw): Promise<JobRecord> {
  const startedAtMs = performance.now()
  const { geometry, train, goldOf, gold, dataset } = prepare(runner, draw)
  const spec = { geometry, gold, seed: draw.seed }
  const { batches } = new GradientSearch(spec)
  const answer = (query: GradientQuery) => differentiate(runner, dataset, query, batches)
  const found =
    draw.budgetSeconds === null
      ? await byGradient(spec, answer)
      : await byAuto(spec, 1000 * draw.budgetSeconds, answer)
  const own = asStored(found.rotation, geometry)
  const folds = found.foldRotations.map((rotation) => asStored(rotation, geometry))
  const identity = identityRotation(geometry)
  const [base, fitted, ...candidates] = await score(runner, dataset, [identity, own, ...folds])
  const seconds = (performance.now() - startedAtMs) / 1000
  const scoreUnseen = async (rows: readonly Row[]): Promise<UnseenScores> => {
    const [ofBase, ofOwn] = await score(runner, putDataset(runner, draw.set, rows), [identity, own])
    return { gold: goldOf(rows), base: ofBase!, own: ofOwn! }
  }
  return {
    set: draw.set,
    seed: draw.seed,
    rows: train.length,
    isShuffled: draw.isShuffled,
    optimizer: draw.budgetSeconds === null ? 'gradient' : `auto ${draw.budgetSeconds} s`,
    seconds: Math.round(seconds * 10) / 10,
    gold,
    folds: new GradientSearch(spec).folds,
    base: base!,
    own: fitted!,
    candidates,
    unseen: await scoreUnseen(draw.unseen),
    ...(draw.test === null ? {} : { test: await scoreUnseen(draw.test) }),
  }
}

/** A job's examples fitted once more by `gradient`, divided into other folds. */
export type Partition = {
  readonly set: string
  /** Of the job. */
  readonly seed: number
  readonly isShuffled: boolean
  /** Decides the folds and batches. */
  readonly partitionSeed: number
  readonly numFolds: number
  readonly gold: readonly number[]
  readonly folds: readonly number[]
  readonly base: LabelLogProbs
  readonly candidates: readonly LabelLogProbs[]
}

export async function runPartition(
  runner: Runner,
  draw: Pick<Draw, 'set' | 'seed' | 'train' | 'isShuffled'>,
  partitionSeed: number,
  numFolds: number,
): Promise<Partition> {
  const { set, seed, isShuffled } = draw
  const { geometry, gold, dataset } = prepare(runner, draw)
  const search = new GradientSearch({ geometry, gold, seed: partitionSeed, options: { numFolds } })
  let state = search.start()
  for (let query = search.ask(state); query !== null; query = search.ask(state)) {
    state = search.tell(state, await differentiate(runner, dataset, query, search.batches))
  }
  const folds = search.foldRotations(state).map((rotation) => asStored(rotation, geometry))
  const [base, ...candidates] = await score(runner, dataset, [identityRotation(geometry), ...folds])
  const found = { folds: search.folds, base: base!, candidates }
  return { set, seed, isShuffled, partitionSeed, numFolds, gold, ...found }
}

/** The draw's examples as a job has them. */
function prepare(runner: Runner, draw: Pick<Draw, 'set' | 'seed' | 'train' | 'isShuffled'>) {
  const { numLayers, numHeads, headDim } = runner.config
  const words = Object.values(TASK_SETS[draw.set]!.words)
  const train = draw.isShuffled ? shuffleLabels(draw.train, draw.seed) : draw.train
  const goldOf = (rows: readonly Row[]) => rows.map(({ word }) => words.indexOf(word))
  return {
    geometry: { numLayers, numHeads, headDim },
    train,
    goldOf,
    gold: goldOf(train),
    dataset: putDataset(runner, draw.set, train),
  }
}

type Spec = { readonly geometry: Geometry; readonly gold: readonly number[]; readonly seed: number }
type Answer = (query: GradientQuery) => Promise<GradientAnswer>
type Found = { readonly rotation: Rotation; readonly foldRotations: readonly Rotation[] }

async function byGradient(spec: Spec, answer: Answer): Promise<Found> {
  const search = new GradientSearch(spec)
  let state = search.start()
  for (let query = search.ask(state); query !== null; query = search.ask(state)) {
    state = search.tell(state, await answer(query))
  }
  return { rotation: search.best(state), foldRotations: search.foldRotations(state) }
}

async function byAuto(spec: Spec, budgetMs: number, answer: Answer): Promise<Found> {
  const search = new AutoSearch({ ...spec, options: { numTrials: 32, budgetMs } })
  let state = search.start()
  for (let query = search.ask(state); query !== null; query = search.ask(state)) {
    const askedAtMs = performance.now()
    const answered = await answer(query)
    state = search.tell(state, answered, performance.now() - askedAtMs)
  }
  return { rotation: search.best(state).rotation, foldRotations: search.foldRotations(state) }
}

/** Shuffling keeps the number of each label. */
function shuffleLabels(rows: readonly Row[], seed: number): Row[] {
  const order = permutation(rows.length, createRng(seed, 32))
  return rows.map((row, i) => ({ ...row, word: rows[order[i]!]!.word }))
}

/** The rotation rounded to the adapter file's precision. */
function asStored(rotation: Rotation, geometry: Geometry): Rotation {
  const file = { modelDigest: MODEL_DIGEST, scope: 'generated', rotation, dtype: 'F16' } as const
  const decoded = decodeAdapter(encodeAdapter(file), geometry)
  if (!decoded.ok) throw new Error(decoded.error.message)
  return decoded.value.rotation
}

async function score(
  runner: Runner,
  dataset: TokenisedDataset,
  rotations: readonly Rotation[],
): Promise<LabelLogProbs[]> {
  const { header, values } = packCandidates(rotations, runner.config, {
    dataset: dataset.digest,
    scope: 'generated',
  })
  const scores = await runner.scorer.score(dataset, header, values, () => false)
  return scores.map((rows) => rows.map((row) => row.map((value) => Number(value.toFixed(5)))))
}

function putDataset(runner: Runner, set: string, rows: readonly Row[]): TokenisedDataset {
  const { instructions, words } = TASK_SETS[set]!
  const labels = Object.values(words)
  const content: Dataset = {
    labels,
    examples: rows.map(({ input, word }) => ({
      messages: [
        { role: 'system', content: instructions },
        { role: 'user', content: input },
      ],
      label: labels.indexOf(word),
    })),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(content))
  return runner.datasets.put(createHash('sha256').update(bytes).digest('hex'), bytes)
}

/** Batch by batch as in a job, so that examples computed together are neighbours. */
async function differentiate(
  runner: Runner,
  dataset: TokenisedDataset,
  { numCandidates, layers, hasLogScale, values, weights, examples, ...query }: GradientQuery,
  batches: readonly number[],
): Promise<GradientAnswer> {
  const order = batches.map((_, i) => i).sort((a, b) => batches[a]! - batches[b]! || a - b)
  const header = {
    dataset: dataset.digest,
    num_candidates: numCandidates,
    layers: [...layers],
    has_log_scale: hasLogScale,
    examples: order,
    ...(examples === null ? {} : { computed_examples: [...examples] }),
    skip_unweighted: query.skipsUnweighted,
    ...(query.promptDropout === undefined ? {} : { prompt_dropout: query.promptDropout }),
  }
  const placeOf = (i: number): number => {
    const candidate = Math.floor(i / order.length)
    return candidate * order.length + order[i % order.length]!
  }
  const body = new Float32Array(values.length + weights.length)
  body.set(values)
  for (const i of weights.keys()) body[values.length + i] = weights[placeOf(i)]!
  const answer = await runner.gradients.gradient(dataset, header, body, () => false)
  const logProbs = new Float32Array(answer.logProbs.length)
  for (const [i, logProb] of answer.logProbs.entries()) logProbs[placeOf(i)] = logProb
  return { logProbs, gradient: answer.gradient }
}
