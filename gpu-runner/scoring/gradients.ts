import { labelPath } from '../../adapters/objective/label-trie.ts'
import {
  MAX_APPLIED_LOG_SCALE,
  pairsPerLayer,
  writeRotationTable,
  type Rotation,
} from '../../adapters/rotation/rotation.ts'
import type { GradientHeader } from '../../src/protocol/runner-scoring.ts'
import type { Executor } from '../engine/executor.ts'
import type { LossKind } from '../onnx/backward/index.ts'
import { RunnerFault } from '../runner-fault.ts'
import { countCandidateValues, decodeCandidates, selectExamples } from './candidates.ts'
import type { TokenisedDataset } from './dataset-store.ts'
import type { LazySession } from './lazy-session.ts'
import { throwIfAborted, type PromptCache } from './prompt-cache.ts'
import { dropPromptTokens } from './prompt-dropout.ts'
import {
  runTrainingStep,
  type RotationTables,
  type TrainingExample,
  type TrainingPosition,
} from './training-step.ts'

/**
 * Most rows of one run: candidates × examples × positions. Longer runs save little time per row, so a
 * run is kept about as short as a prompt chunk, and a live row waits for one run at most. Only a
 * single target's positions, which cannot be divided, may take more rows.
 */
const MAX_STEP_ROWS = 32
const MAX_ABS_WEIGHT = 1e3

export type Gradients = {
  /** −Σ weight·log P(right label or target), [candidates] */
  readonly loss: Float32Array
  /** log P(right label or target), [candidates, examples] */
  readonly logProbs: Float32Array
  /** By angle [candidates, layers, heads, pairs], then by log scale where the header has them. */
  readonly gradient: Float32Array
}

/** Differentiates the loss of candidates over the examples of a dataset. */
export class GradientScorer {
  readonly #executor: Executor
  readonly #prompts: PromptCache
  readonly #sessions: Readonly<Record<LossKind, LazySession>>

  constructor(
    executor: Executor,
    prompts: PromptCache,
    sessions: Readonly<Record<LossKind, LazySession>>,
  ) {
    this.#executor = executor
    this.#prompts = prompts
    this.#sessions = sessions
  }

  /**
   * @param values candidates as `decodeCandidates` reads them, then weights [candidates, examples]
   * @throws {RunnerFault} values or examples that do not fit the dataset or model; aborted
   */
  gradient(
    dataset: TokenisedDataset,
    header: GradientHeader,
    values: Float32Array,
    isAborted: () => boolean,
  ): Promise<Gradients> {
    const examples = selectExamples(dataset, header.examples)
    const numWeights = header.num_candidates * examples.length
    const numValues = countCandidateValues(this.#executor.config, header)
    if (values.length !== numValues + numWeights) {
      throw new RunnerFault(
        'invalid_request',
        `${values.length} values; ${numValues} of the candidates and ${numWeights} weights are needed`,
      )
    }
    const rotations = decodeCandidates(this.#executor.config, header, values.subarray(0, numValues))
    const flatWeights = values.subarray(numValues)
    if (!flatWeights.every((weight) => Math.abs(weight) <= MAX_ABS_WEIGHT)) {
      throw new RunnerFault('invalid_request', 'a weight is out of bounds')
    }
    const weights = rotations.map((_, candidate) =>
      Array.from(
        flatWeights.subarray(candidate * examples.length, (candidate + 1) * examples.length),
      ),
    )
    const computed = selectComputed(header, examples)
    const isSkipped = (place: number): boolean =>
      computed !== null && !computed.has(examples[place]!)
    if (weights.some((row) => row.some((weight, place) => weight !== 0 && isSkipped(place)))) {
      throw new RunnerFault(
        'invalid_request',
        'an example that computed_examples does not name has a weight',
      )
    }
    const everyCandidate = rotations.map((_, candidate) => candidate)
    // If the caller says so, an example is not computed for candidates that give it no weight.
    const activeOf = (place: number): readonly number[] => {
      if (isSkipped(place)) return []
      if (header.skip_unweighted !== true) return everyCandidate
      return everyCandidate.filter((candidate) => weights[candidate]![place] !== 0)
    }
    return this.#sessions[lossOf(dataset)].use((loading) =>
      this.#prompts.takeTurn(async () => {
        const tables = this.#tablesOf(rotations)
        const sums = zerosLike(tables)
        const logProbs = rotations.map(() => new Array<number>(examples.length).fill(NaN))
        let done = 0
        for (const members of this.#prompts.membersOf(examples)) {
          // The session may still be loading while this group's prompts are computed.
          const { kv } = await this.#prompts.open(dataset, members, isAborted)
          const session = await loading
          const all = members.map((example) => toTrainingExample(dataset, example))
          const active = members.map((_, i) => activeOf(done + i))
          for (const { start, end, candidates } of runsOf(all, active)) {
            throwIfAborted(isAborted)
            const part = pickTables(tables, candidates)
            const partSums = zerosLike(part)
            const partWeights = candidates.map((candidate) =>
              weights[candidate]!.slice(done + start, done + end),
            )
            const dropped = dropTokens(
              dataset,
              header,
              members.slice(start, end),
              candidates,
              partWeights,
            )
            const rows = all.slice(start, end).map((row, i) => ({ ...row, dropped: dropped[i]! }))
            const result = await this.#executor.takeTurn(() =>
              runTrainingStep(
                session,
                this.#executor.config,
                kv,
                start,
                rows,
                part,
                partWeights,
                partSums,
              ),
            )
            addTables(sums, partSums, candidates)
            for (const [i, candidate] of candidates.entries()) {
              for (const [example, logProb] of result.logProbs[i]!.entries()) {
                logProbs[candidate]![done + start + example] = logProb
              }
            }
          }
          done += members.length
        }
        return {
          loss: Float32Array.from(logProbs, (row, candidate) =>
            row.reduce((sum, logProb, i) => {
              const weight = weights[candidate]![i]!
              return weight === 0 ? sum : sum - weight * logProb
            }, 0),
          ),
          logProbs: Float32Array.from(logProbs.flat()),
          gradient: this.#toAngles(header, rotations, tables, sums),
        }
      }),
    )
  }

  /** Begins to load the training graph for a later call. */
  warm(dataset: TokenisedDataset): void {
    this.#sessions[lossOf(dataset)].warm()
  }

  async release(): Promise<void> {
    for (const session of Object.values(this.#sessions)) await session.release()
  }

  #tablesOf(rotations: readonly Rotation[]): RotationTables {
    const { config } = this.#executor
    const pairs = pairsPerLayer(config)
    const cos: Float32Array[] = []
    const sin: Float32Array[] = []
    for (let layer = 0; layer < config.numLayers; layer++) {
      const [c, s] = [
        new Float32Array(rotations.length * pairs),
        new Float32Array(rotations.length * pairs),
      ]
      for (const [candidate, { layers }] of rotations.entries()) {
        writeRotationTable(layers.get(layer), c, s, candidate * pairs, pairs)
      }
      cos.push(c)
      sin.push(s)
    }
    return { numCandidates: rotations.length, cos, sin }
  }

  /**
   * Turns gradients by the tables c = r·cos θ and s = r·sin θ into gradients by θ and ln r:
   * ∂/∂θ = c·∂/∂s − s·∂/∂c and ∂/∂ln r = c·∂/∂c + s·∂/∂s. The latter is 0 where r was clamped.
   */
  #toAngles(
    { layers, has_log_scale: hasLogScale }: GradientHeader,
    rotations: readonly Rotation[],
    tables: RotationTables,
    sums: RotationTables,
  ): Float32Array {
    const pairs = pairsPerLayer(this.#executor.config)
    const half = rotations.length * layers.length * pairs
    const gradient = new Float32Array(hasLogScale ? 2 * half : half)
    for (const [candidate, rotation] of rotations.entries()) {
      for (const [i, layer] of layers.entries()) {
        const logScale = rotation.layers.get(layer)?.logScale
        for (let pair = 0; pair < pairs; pair++) {
          const from = candidate * pairs + pair
          const [c, s] = [tables.cos[layer]![from]!, tables.sin[layer]![from]!]
          const [dc, ds] = [sums.cos[layer]![from]!, sums.sin[layer]![from]!]
          const to = (candidate * layers.length + i) * pairs + pair
          gradient[to] = c * ds - s * dc
          if (logScale !== undefined && Math.abs(logScale[pair]!) <= MAX_APPLIED_LOG_SCALE) {
            gradient[half + to] = c * dc + s * ds
          }
        }
      }
    }
    return gradient
  }
}

/** Which of the examples are computed; null where all are. */
function selectComputed(
  { computed_examples: given }: GradientHeader,
  examples: readonly number[],
): ReadonlySet<number> | null {
  if (given === undefined) return null
  const asked = new Set(examples)
  const unknown = given.find((example) => !asked.has(example))
  if (unknown !== undefined) {
    throw new RunnerFault(
      'invalid_request',
      `computed_examples names example ${unknown}, which examples does not`,
    )
  }
  return new Set(given)
}

const lossOf = ({ answers }: TokenisedDataset): 'choices' | 'vocabulary' =>
  answers.kind === 'labels' ? 'choices' : 'vocabulary'

/**
 * Chooses the prompt tokens to drop, for each example and candidate. An example of weight 0 is not
 * fitted, only scored, so none of its tokens are dropped.
 * @param weights [candidates][examples]
 * @returns [examples][candidates] positions in the prompt
 */
function dropTokens(
  { prompts, sharedEnds }: TokenisedDataset,
  { prompt_dropout: dropout }: GradientHeader,
  examples: readonly number[],
  candidates: readonly number[],
  weights: readonly (readonly number[])[],
): (readonly number[])[][] {
  return examples.map((example, i) => {
    const end = prompts[example]!.length - Math.max(1, sharedEnds.end)
    return candidates.map((candidate, k) =>
      dropout === undefined || weights[k]![i] === 0
        ? []
        : dropPromptTokens([sharedEnds.start, end], [example, candidate], dropout),
    )
  })
}

/**
 * The positions along the right label's path, or along the target; the last prompt token comes first.
 */
function toTrainingExample(
  { prompts, answers }: TokenisedDataset,
  example: number,
): TrainingExample {
  const prompt = prompts[example]!
  if (answers.kind === 'targets') {
    const target = answers.targets[example]!
    const positions = target.map((gold, i): TrainingPosition => {
      return { token: i === 0 ? prompt.at(-1)! : target[i - 1]!, gold, choices: null }
    })
    return { promptLen: prompt.length, positions }
  }
  const positions = labelPath(answers.trie, answers.gold[example]!).map(
    ({ token, gold, children }): TrainingPosition => ({
      token: token ?? prompt.at(-1)!,
      gold,
      choices: children,
    }),
  )
  return { promptLen: prompt.length, positions }
}

/** One run of the training graph. */
type Run = {
  /** The group's examples [start, end). */
  readonly start: number
  readonly end: number
  readonly candidates: readonly number[]
}

/**
 * Divides a group into runs. Neighbouring examples that the same candidates want are split into equal
 * runs of at most {@link MAX_STEP_ROWS} rows. If one example alone has too many rows, its candidates
 * are divided too. Examples that no candidate wants are in no run.
 */
function* runsOf(
  examples: readonly TrainingExample[],
  active: readonly (readonly number[])[],
): Generator<Run> {
  for (let first = 0; first < examples.length;) {
    const candidates = active[first]!
    let end = first + 1
    while (end < examples.length && active[end]!.join() === candidates.join()) end++
    if (candidates.length > 0) yield* splitRun(examples, { start: first, end, candidates })
    first = end
  }
}

function* splitRun(
  examples: readonly TrainingExample[],
  { start, end, candidates }: Run,
): Generator<Run> {
  const longest = Math.max(...examples.slice(start, end).map(({ positions }) => positions.length))
  const numTogether = Math.min(candidates.length, Math.max(1, Math.floor(MAX_STEP_ROWS / longest)))
  const perExample = longest * numTogether
  const perRun = Math.max(1, Math.floor(MAX_STEP_ROWS / perExample))
  const numRuns = Math.ceil((end - start) / perRun)
  for (let run = 0; run < numRuns; run++) {
    const [from, to] = [run, run + 1].map((i) => start + Math.round((i * (end - start)) / numRuns))
    for (let first = 0; first < candidates.length; first += numTogether) {
      const some = candidates.slice(first, first + numTogether)
      yield { start: from!, end: to!, candidates: some }
    }
  }
}

/** Copies the tables of some candidates, in their order. */
function pickTables(tables: RotationTables, candidates: readonly number[]): RotationTables {
  if (candidates.length === tables.numCandidates) return tables
  const pick = (table: Float32Array): Float32Array => {
    const pairs = table.length / tables.numCandidates
    const picked = new Float32Array(candidates.length * pairs)
    for (const [i, candidate] of candidates.entries()) {
      picked.set(table.subarray(candidate * pairs, (candidate + 1) * pairs), i * pairs)
    }
    return picked
  }
  return {
    numCandidates: candidates.length,
    cos: tables.cos.map(pick),
    sin: tables.sin.map(pick),
  }
}

/** Adds the tables of some candidates to the tables of all. */
function addTables(
  sums: RotationTables,
  part: RotationTables,
  candidates: readonly number[],
): void {
  for (const name of ['cos', 'sin'] as const) {
    for (const [layer, table] of part[name].entries()) {
      const pairs = table.length / candidates.length
      const sum = sums[name][layer]!
      for (const [i, candidate] of candidates.entries()) {
        for (let pair = 0; pair < pairs; pair++) {
          sum[candidate * pairs + pair]! += table[i * pairs + pair]!
        }
      }
    }
  }
}

const zerosLike = ({ numCandidates, cos, sin }: RotationTables): RotationTables => ({
  numCandidates,
  cos: cos.map((table) => new Float32Array(table.length)),
  sin: sin.map((table) => new Float32Array(table.length)),
})
