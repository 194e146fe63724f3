/** Adapters out and in, strengths, damage and the published search, through the real product. */
import { beforeAll, describe, it } from 'vitest'
import { encodeAdapter, type AdapterScope } from '../../adapters/format/adapter-file.ts'
import { inverseRotation, type Rotation } from '../../adapters/rotation/rotation.ts'
import type { TaskVersion } from '../../src/protocol/arcana/tasks.ts'
import type { FineTuningJob } from '../../src/protocol/openai/fine-tuning.ts'
import type { Completion } from '../../src/protocol/openai/completions.ts'
import { callerOf } from '../bench/damage.ts'
import { measureDamage, type Damage } from '../bench/damage/measure.ts'
import { toDamageSet } from '../bench/damage/sets.ts'
import { Api, BASE_MODEL, NEWS_INSTRUCTIONS, newsSplit } from '../fixtures/api.ts'
import { MODEL_SHAPE } from '../fixtures/adapter-bytes.ts'
import { MODEL_DIGEST, randomRotation } from '../fixtures/runner.ts'
import { sharedStack } from '../fixtures/shared-stack.ts'
import type { StackAccess } from '../fixtures/stack.ts'

const NUM_TRIALS = 12
/** Float32 rounding of logits of size 20, through thirty layers. */
const ROUNDING = 1e-3
const TEXT = 'The ferry leaves the harbour at nine, and the last one comes back'

let stack: StackAccess
let api: Api
let call: ReturnType<typeof callerOf>

beforeAll(async () => {
  stack = await sharedStack()
  api = new Api(stack)
  call = callerOf(stack.baseUrl, stack.apiKey)
})

async function upload(
  task: string,
  scope: AdapterScope,
  rotation: Rotation,
): Promise<{ readonly version: TaskVersion; readonly bytes: Uint8Array }> {
  const bytes = encodeAdapter({ modelDigest: MODEL_DIGEST, scope, rotation, dtype: 'F32' })
  const version = await send(task, bytes, {})
  return { version, bytes }
}

async function send(
  task: string,
  bytes: Uint8Array<ArrayBuffer>,
  fields: Record<string, string>,
): Promise<TaskVersion> {
  const form = new FormData()
  form.set('file', new Blob([bytes]), 'adapter')
  for (const [name, value] of Object.entries(fields)) form.set(name, value)
  return (await call(`/tasks/${task}/versions`, form)) as TaskVersion
}

const download = async (path: string) => {
  const response = await fetch(`${stack.baseUrl}/tasks/${path}`, {
    headers: { authorization: `Bearer ${stack.apiKey}` },
  })
  if (!response.ok) throw new Error(await response.text())
  return new Uint8Array(await response.arrayBuffer())
}

/** Log probabilities of a text's tokens, with every token rotated. */
async function logProbsOf(selection: string | null): Promise<number[]> {
  const body = { model: BASE_MODEL, prompt: TEXT, max_tokens: 0, echo: true, logprobs: 0 }
  const answer = (await (selection === null
    ? call('/completions', body)
    : call('/completions', { ...body, rotate_from: 0 }, { 'x-task': selection }))) as Completion
  return answer.choices[0]!.logprobs!.token_logprobs.slice(1) as number[]
}
const largest = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

describe('an adapter', () => {
  it('is exported as a file and as PEFT, and imported as the same map', async ({ expect }) => {
    const { version, bytes } = await upload('wild', 'all', randomRotation(MODEL_SHAPE, 3, 0.4))
    expect(version).toMatchObject({ id: 'wild@1', is_live: true, scope: 'all' })
    expect(await download('wild/versions/1/adapter')).toEqual(bytes)

    const zip = await download('wild/versions/1/adapter?format=peft')
    const version2 = JSON.stringify({ model: BASE_MODEL })
    expect(await send('back', zip, { format: 'peft', version: version2 })).toMatchObject({
      id: 'back@1',
      layers: version.layers,
    })
    const [base, wild, back] = [
      await logProbsOf(null),
      await logProbsOf('wild'),
      await logProbsOf('back'),
    ]
    expect(largest(wild, back)).toBeLessThan(ROUNDING)
    expect(largest(base, wild)).toBeGreaterThan(100 * ROUNDING)
  })

  it('at strength 0 is the base model exactly, and −1 undoes it', async ({ expect }) => {
    await upload('undo', 'all', inverseRotation(randomRotation(MODEL_SHAPE, 3, 0.4)))
    const base = await logProbsOf(null)
    expect(await logProbsOf('wild*0')).toEqual(base)
    expect(largest(await logProbsOf('wild - wild'), base)).toBeLessThan(ROUNDING)
    expect(largest(await logProbsOf('wild+undo'), base)).toBeLessThan(ROUNDING)
    expect(largest(await logProbsOf('undo'), await logProbsOf('wild*-1'))).toBeLessThan(ROUNDING)
  })

  it('moves further from the base with its strength, without jumps', async ({ expect }) => {
    const base = await logProbsOf(null)
    const moved: number[] = []
    for (const strength of [0, 0.01, 0.25, 0.5, 0.75, 1, 1.25, 1.5]) {
      const found = await logProbsOf(`wild*${strength}`)
      expect(found.every((value) => Number.isFinite(value) && value <= 0)).toBe(true)
      moved.push(found.reduce((sum, value, i) => sum + Math.abs(value - base[i]!), 0))
    }
    console.log('total change of log probabilities by strength', moved)
    expect(moved[0]).toBe(0)
    expect(moved[1]).toBeGreaterThan(0)
    expect(moved[1]).toBeLessThan(moved[5]! / 10)
    expect(moved[5]).toBeGreaterThan(moved[2]!)
  })
})

describe('damage', () => {
  it('is measured on other knowledge, without a change of the base model', async ({ expect }) => {
    await upload('later', 'generated', randomRotation(MODEL_SHAPE, 4, 0.6))
    const choices = (input: string, right: string, ...wrong: string[]) => ({
      input,
      choices: [...wrong, right],
      answer_index: wrong.length,
    })
    const sets = [
      toDamageSet(
        'arc_easy',
        [
          choices('What do bees make?', 'honey', 'glass', 'petrol'),
          choices('What is frozen water called?', 'ice', 'sand', 'smoke'),
          choices('Which animal barks?', 'a dog', 'a fish', 'an ant'),
        ],
        3,
      ),
      toDamageSet('lambada', [{ input: 'She poured tea into a', target: 'cup' }], 3),
      toDamageSet(
        'wikitext2',
        ['The river ran past the old mill . ', 'A red door stood open all day long . '].map(
          (sentence) => ({ input: sentence.repeat(40) }),
        ),
        3,
      ),
    ]
    const measured: Damage[] = []
    for (const set of sets) {
      const [wild, later] = await measureDamage(call, ['wild', 'later@1'], set)
      console.log(JSON.stringify([wild, later]))
      expect(wild).toMatchObject({ set: set.name, task: 'wild', baseAfterwards: 0 })
      expect(later!.baseAfterwards).toBe(0)
      expect(wild!.numItems).toBe({ arc_easy: 3, lambada: 1, wikitext2: 2 }[set.name])
      expect(wild!.accuracy === null).toBe(set.kind === 'text')
      expect(wild!.perplexity === null).toBe(set.kind === 'choice')
      measured.push(later!)
    }
    // The base model knows most of these simple facts.
    expect(measured[0]!.accuracy!.base).toBeGreaterThanOrEqual(2 / 3)
    // A phrase said forty times is nearly certain, and less so under wild angles.
    const { base, adapter, difference } = measured[2]!.perplexity!
    expect(base).toBeLessThan(1.5)
    expect(adapter).toBeGreaterThan(base)
    expect(difference.mean).toBeCloseTo(Math.log(adapter / base), 9)
  })
})

describe('a tarot job', () => {
  it('searches the first layers, and publishes an adapter that beats the base or none', async ({
    expect,
  }) => {
    const { training } = await newsSplit()
    const file = await api.upload(training)
    const created = await api.post<FineTuningJob>('/fine_tuning/jobs', {
      model: BASE_MODEL,
      training_file: file.id,
      suffix: 'news',
      seed: 7,
      method: {
        type: 'rotation',
        rotation: {
          instructions: NEWS_INSTRUCTIONS,
          hyperparameters: { optimizer: 'tarot', n_trials: NUM_TRIALS },
        },
      },
    })
    expect(created.method.rotation.hyperparameters).toEqual({
      optimizer: 'tarot',
      n_trials: NUM_TRIALS,
    })
    const job = await api.untilFinished(created.id, 120_000)
    const { progress, report } = job.arcana
    console.log(job.status, job.error?.code, progress)
    expect(progress.trials_done).toBe(NUM_TRIALS)
    const values = (await api.events(job.id)).data.flatMap(({ type, data }) =>
      type === 'metrics' ? [data!['value']] : [],
    )
    expect(new Set(values).size).toBe(NUM_TRIALS)
    expect(values.at(-1)).toBe(progress.base_value)
    if (job.status === 'succeeded') {
      expect(report).toMatchObject({ optimizer: 'tarot', layers: [0, 1, 2, 3, 4] })
    } else expect(job.error?.code).toBe('no_gain')
  })
})
