import { describe, it } from 'vitest'
import {
  accepted,
  client,
  postExamples,
  runner,
  uploadExamples,
  useFreshProject,
} from '../fresh-project.ts'
import { MODEL } from '../harness.ts'
import { createJob, EXAMPLES, waitFor } from '../label-jobs.ts'
import { refuse } from '../runner-double.ts'

useFreshProject()

/** The double's context holds 2,048 tokens, of a character each. */
const LONG = 'x'.repeat(3000)
const LINES = [
  ...EXAMPLES,
  { input: `${LONG} goal`, label: 'Sports' },
  { input: 'poll', label: 'World' },
]
const method = (too_long?: string, more: object = {}) => ({
  type: 'rotation',
  rotation: {
    instructions: 'Say the category.',
    hyperparameters: { optimizer: 'random', n_trials: 24 },
    ...(too_long === undefined ? {} : { too_long }),
    ...more,
  },
})
const warningsOf = async (id: string) => {
  const path = `/v1/fine_tuning/jobs/${id}/events?limit=1000`
  const { data } = await accepted<{ data: { level: string; message: string }[] }>(
    client.call('GET', path),
  )
  return data.filter(({ level }) => level === 'warn').map(({ message }) => message)
}
/** What the job sent its runner. */
const storedExamples = () => [...runner.datasets.values()].map(({ examples }) => examples)

describe('an upload with lines past the context', () => {
  it('names them in its answer', async ({ expect }) => {
    const response = await postExamples(LINES)
    expect(response.status).toBe(200)
    const file = await response.json<{ id: string; arcana: object }>()
    expect(file.arcana).toEqual({
      num_examples: 6,
      too_long: { max_context: 2048, num_lines: 1, lines: [5], is_complete: true },
    })
    const fits = await postExamples([...EXAMPLES, { input: 'x'.repeat(2000), label: 'World' }])
    expect((await fits.json<{ arcana: object }>()).arcana).toEqual({ num_examples: 5 })
  })

  it('is accepted if no runner can measure it', async ({ expect }) => {
    runner.isDown = true
    const response = await postExamples(LINES)
    expect(response.status).toBe(200)
    expect((await response.json<{ arcana: object }>()).arcana).toEqual({ num_examples: 6 })
  })
})

describe('a job with examples past the context', () => {
  it('is refused with their lines, unless it says otherwise', async ({ expect }) => {
    const training_file = await uploadExamples(LINES)
    for (const way of [undefined, 'error']) {
      const response = await client.call('POST', '/v1/fine_tuning/jobs', {
        model: MODEL,
        training_file,
        method: method(way),
      })
      expect(response.status).toBe(400)
      const { error } = await response.json<{ error: { message: string } }>()
      expect(error).toMatchObject({ param: 'training_file', code: 'context_length_exceeded' })
      expect(error.message).toContain("line 5 is longer than the model's context of 2048 tokens")
    }
    const other = await client.call('POST', '/v1/fine_tuning/jobs', {
      model: MODEL,
      training_file,
      method: method('wrap'),
    })
    expect(await other.json()).toMatchObject({ error: { param: 'method.rotation.too_long' } })
  })

  it('learns without them', async ({ expect }) => {
    const training_file = await uploadExamples(LINES)
    const job = await createJob({ training_file, method: method('drop') })
    expect(job).toMatchObject({ method: { rotation: { too_long: 'drop' } } })
    expect(await warningsOf(job.id)).toContain('Line 5 is longer than the context and left out.')
    expect((await waitFor(job.id)).status).toBe('succeeded')
    expect(storedExamples()[0]).toHaveLength(5)
  })

  it('learns from their beginnings', async ({ expect }) => {
    const validation_file = await uploadExamples(LINES)
    for (const position of ['before', 'after']) {
      const training_file = await uploadExamples(LINES)
      runner.datasets.clear()
      const job = await createJob({
        training_file,
        validation_file,
        method: method('truncate', { position }),
      })
      expect(await warningsOf(job.id)).toContain(
        'Line 5 is longer than the context and cut at the input’s end.',
      )
      expect((await waitFor(job.id)).status).toBe('succeeded')
      for (const examples of storedExamples()) {
        expect(examples).toHaveLength(6)
        const { messages } = examples[4]!
        const numChars = messages.reduce((sum, { content }) => sum + content.length, 0)
        expect(numChars).toBeLessThanOrEqual(2048 - 1 - 10)
        expect(numChars).toBeGreaterThan(2048 - 1 - 10 - 8)
        expect(messages.at(-1)!.content).toMatch(/^x/)
        expect(JSON.stringify(messages)).toContain('Say the category.')
      }
    }
  })

  it('is refused if even an empty input does not fit', async ({ expect }) => {
    const response = await client.call('POST', '/v1/fine_tuning/jobs', {
      model: MODEL,
      training_file: await uploadExamples(EXAMPLES),
      method: method('truncate', { instructions: LONG }),
    })
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { message: string } }>()
    expect(error.message).toContain('even with an empty input')
  })

  it('needs a runner to measure its lines, unless it only refuses them', async ({ expect }) => {
    const training_file = await uploadExamples(LINES)
    runner.intercept = (request) =>
      request.url.endsWith('/v1/measure') ? refuse(503, 'over_capacity', 'over_capacity') : null
    const ask = (way: string) =>
      client.call('POST', '/v1/fine_tuning/jobs', {
        model: MODEL,
        training_file,
        method: method(way),
      })
    expect((await ask('drop')).status).toBeGreaterThanOrEqual(429)
    runner.intercept = () => null
    runner.isDown = true
    expect((await ask('truncate')).status).toBe(503)
    expect((await ask('error')).status).toBe(200)
  })
})

describe('a job whose labels have many tokens', () => {
  const FAMILY = '👩‍👩‍👧‍👦👨‍👨‍👦‍👦'
  const LINES_OF_EMOJI = EXAMPLES.map(({ input }, i) => ({ input, label: i % 2 ? FAMILY : 'b' }))

  const warned = async (lines: readonly object[]): Promise<string> => {
    const job = await createJob({ training_file: await uploadExamples(lines), method: method() })
    return (await warningsOf(job.id)).join()
  }

  it('says which, and how many tokens they have', async ({ expect }) => {
    const said = `A label has many tokens: ${JSON.stringify(FAMILY)} (14)`
    expect(await warned(LINES_OF_EMOJI)).toContain(said)
    expect(await warned(EXAMPLES)).not.toContain('many tokens')
  })

  it('begins if no runner can measure its labels', async ({ expect }) => {
    const training_file = await uploadExamples(LINES_OF_EMOJI)
    runner.isDown = true
    expect(await createJob({ training_file, method: method() })).toMatchObject({
      object: 'fine_tuning.job',
    })
  })
})
