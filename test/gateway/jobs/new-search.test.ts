import { env } from 'cloudflare:workers'
import { describe, it, onTestFinished } from 'vitest'
import { identityRotation, pairsPerLayer } from '../../../adapters/rotation/rotation.ts'
import { bestValue } from '../../../src/jobs/best-value.ts'
import type { JobSpec, PinnedModel, Trial } from '../../../src/jobs/job-spec.ts'
import { LABEL } from '../../../src/jobs/objectives/label.ts'
import { SEARCHES, settleHyperparameters } from '../../../src/jobs/searches/searches.ts'
import { message, toStored } from '../../../src/jobs/step-context.ts'
import type { SearchKind } from '../../../src/jobs/step.ts'
import { datasetKey } from '../../../src/storage/blobs.ts'
import { sha256Hex } from '../../../src/storage/digest.ts'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import { MODEL } from '../harness.ts'
import { EXAMPLES, readEvents, trialsOf, upTo, waitFor } from '../label-jobs.ts'

useFreshProject()

/** No release has a search of this name. */
const NAME = 'one-angle' as JobSpec['optimiser']
const ANGLES = [0, -0.4, 0.3, 0.6] as const

const turnBy = ({ geometry }: PinnedModel, angle: number) =>
  angle === 0
    ? identityRotation(geometry)
    : {
        geometry,
        layers: new Map([[0, { angles: new Float32Array(pairsPerLayer(geometry)).fill(angle) }]]),
      }

const bestOf = (trials: readonly Trial[]): Trial | null =>
  trials.find(({ value }) => value !== null && value === bestValue(trials)) ?? null

/** Turns all pairs of the first layer by one angle, a step for each that it tries. */
const ONE_ANGLE: SearchKind = {
  hyperparameters: [],
  datasetUse: 'score',
  maxFolds: 2,
  foldSearch: null,
  settle: () => ({ numTrials: ANGLES.length }),
  showHyperparameters: ({ numTrials }) => ({ optimizer: 'random', n_trials: numTrials }),
  describeBudget: ({ numTrials }) => `${numTrials} angles`,
  async stepSearch(context, pinned) {
    const { spec, trials, objective } = context
    const index = trials.length
    const angle = ANGLES[index]
    if (angle === undefined) {
      return { state: { phase: 'reporting' }, events: [message('All angles are tried.')] }
    }
    const { rotation } = toStored(spec, pinned, turnBy(pinned, angle))
    const [scores] = await objective.measureRotations(context, pinned, spec.training, [rotation])
    const value = objective.valueOf(spec, pinned, scores!, () => true)
    return {
      state: {},
      trials: [{ round: index, index, z: [angle], value }],
      events: [{ level: 'info', type: 'metrics', message: 'Tried one.', data: { trial: index } }],
    }
  },
  searchResult({ trials }, pinned) {
    const best = bestOf(trials)
    if (best?.value == null) return null
    return { rotation: turnBy(pinned, best.z[0]!), index: best.index, value: best.value }
  },
  outOfFoldRotations({ trials }, pinned) {
    const angle = bestOf(trials)?.z[0] ?? 0
    return [turnBy(pinned, angle), turnBy(pinned, angle)]
  },
}

async function makeSpec(): Promise<JobSpec> {
  const id = `ftjob-${crypto.randomUUID().replaceAll('-', '')}`
  const labels = ['Sports', 'World']
  const gold = EXAMPLES.map(({ label }) => labels.indexOf(label))
  const examples = EXAMPLES.map(({ input }, i) => ({
    messages: [{ role: 'user', content: input }],
    label: gold[i]!,
  }))
  const bytes = new TextEncoder().encode(JSON.stringify({ labels, examples }))
  const blobKey = datasetKey(projectId, id, 'training')
  await env.BLOBS.put(blobKey, bytes)
  return {
    ...{ projectId, id, createdAtMs: Date.now(), model: MODEL, task: 'turned', seed: 7, labels },
    ...{ trainingFile: 'file-1', validationFile: null, validation: null, metadata: null },
    ...settleHyperparameters(NAME, { optimizer: 'auto' }, { objective: LABEL, scope: 'generated' }),
    ...{ scope: 'generated', objective: 'label', confidence: null, warnings: [] },
    ...{ guard: 'report', force: false, groups: gold.map((_, example) => example) },
    frame: { instructions: null, position: 'before' },
    training: { blobKey, digest: await sha256Hex(bytes), gold },
  }
}

describe('a search that is added as one record', () => {
  it('runs a job from its creation to a version that is served', async ({ expect }) => {
    SEARCHES.set(NAME, ONE_ANGLE)
    onTestFinished(() => {
      SEARCHES.delete(NAME)
    })
    const spec = await makeSpec()
    await env.JOBS.get(env.JOBS.idFromName(`${projectId}/${spec.id}`)).create(spec)
    const job = await waitFor(spec.id)

    expect(job).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: `${MODEL}:turned`,
      arcana: {
        version: 1,
        progress: { trials_done: 4, trials_total: 4, guard_trials_total: 0 },
        report: { optimizer: NAME, n_trials: 4, best_trial: 3, layers: [0] },
      },
    })
    const { best_value: best, base_value: base } = job.arcana.progress
    expect(best).toBeGreaterThan(base)
    const events = await readEvents(spec.id)
    expect(trialsOf(events)).toEqual(upTo(4))
    expect(events.map((event) => event.message)).toContain(
      'Learning 2 labels from 4 examples with one-angle, 4 angles.',
    )
    expect((await client.chat({ model: job.fine_tuned_model! })).status).toBe(200)
    expect(runner.generateRequests.at(-1)?.arms).toHaveLength(1)
    expect(await env.BLOBS.head(spec.training.blobKey)).toBeNull()
  })

  it('is not known without its record', async ({ expect }) => {
    await expect(makeSpec()).rejects.toThrow('no search "one-angle"')
  })
})
