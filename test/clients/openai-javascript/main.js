/** OpenAI's own JavaScript client: chat, stream, parse, responses, files, jobs, models. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import OpenAI, { NotFoundError, toFile } from 'openai'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'

const { ARCANA_MODEL: model, ARCANA_TASK: task } = process.env
const LABELS = ['World', 'Sports', 'Business', 'Science']
const hello = [{ role: 'user', content: 'Say hello.' }]
const news = [{ role: 'user', content: 'The striker scored twice.' }]

const client = new OpenAI()

async function chat() {
  const answer = await client.chat.completions.create({
    model,
    messages: hello,
    max_completion_tokens: 24,
  })
  assert.ok(answer.choices[0].message.content)
}

async function stream() {
  const events = client.chat.completions.stream({ model, messages: hello, temperature: 0 })
  let text = ''
  events.on('content', (delta) => (text += delta))
  const { choices } = await events.finalChatCompletion()
  assert.ok(text)
  assert.equal(choices[0].message.content, text)

  const chunks = await client.chat.completions.create({
    model,
    messages: hello,
    max_tokens: 24,
    stream: true,
  })
  let numTexts = 0
  for await (const chunk of chunks) numTexts += chunk.choices[0]?.delta.content ? 1 : 0
  assert.ok(numTexts > 0)
}

async function askTask() {
  const headers = { 'x-task': task }
  const { data, response } = await client.chat.completions
    .create({ model, messages: news }, { headers })
    .withResponse()
  assert.equal(response.headers.get('x-arcana-task'), task)
  assert.ok(LABELS.includes(data.choices[0].message.content))
  assert.deepEqual(data.arcana.labels.map(({ label }) => label).sort(), [...LABELS].sort())

  const named = await client.chat.completions.create({ model: `${model}:${task}`, messages: news })
  assert.equal(named.model, `${model}:${task}`)
  assert.equal(named.choices[0].message.content, data.choices[0].message.content)
}

const Report = z.object({
  topic: z.enum(['weather', 'sports']),
  isGood: z.boolean(),
  score: z.int().nullable(),
})

async function parse() {
  const answer = await client.chat.completions.parse({
    model,
    messages: news,
    response_format: zodResponseFormat(Report, 'report'),
  })
  Report.parse(answer.choices[0].message.parsed)
}

async function responses() {
  const input = 'Say hello.'
  const answer = await client.responses.create({ model, input, max_output_tokens: 24 })
  assert.ok(answer.output_text)

  const events = client.responses.stream({ model, input, temperature: 0 })
  let text = ''
  events.on('response.output_text.delta', ({ delta }) => (text += delta))
  assert.equal((await events.finalResponse()).output_text, text)
  assert.ok(text)

  const parsed = await client.responses.parse({
    model,
    input: news,
    text: { format: zodTextFormat(Report, 'report') },
  })
  Report.parse(parsed.output_parsed)

  const asked = await client.responses.create({ model: `${model}:${task}`, input: news })
  assert.ok(LABELS.includes(asked.output_text))
}

async function jobs() {
  const names = ['Anna', 'Ben', 'Carla', 'Dan', 'Eve', 'Finn']
  const lines = names.flatMap((name) => [
    { input: `${name} agreed.`, label: 'yes' },
    { input: `${name} refused.`, label: 'no' },
  ])
  const content = lines.map((line) => JSON.stringify(line)).join('\n')
  const file = await client.files.create({
    purpose: 'fine-tune',
    file: await toFile(Buffer.from(content), 'lines.jsonl'),
  })
  assert.equal(await (await client.files.content(file.id)).text(), content)
  assert.ok((await client.files.list()).data.some(({ id }) => id === file.id))

  let job = await client.fineTuning.jobs.create({
    model,
    training_file: file.id,
    suffix: 'agreed',
    method: {
      type: 'rotation',
      rotation: {
        instructions: 'Did they agree? Answer with yes or no only.',
        force: true,
        hyperparameters: { optimizer: 'gradient', n_steps: 4 },
      },
    },
  })
  while (!['succeeded', 'failed', 'cancelled'].includes(job.status)) {
    await sleep(500)
    job = await client.fineTuning.jobs.retrieve(job.id)
  }
  assert.equal(job.status, 'succeeded')
  assert.ok((await client.fineTuning.jobs.listEvents(job.id)).data.length > 0)
  assert.ok((await client.fineTuning.jobs.list()).data.some(({ id }) => id === job.id))

  const messages = [{ role: 'user', content: 'Gus agreed.' }]
  const answer = await client.chat.completions.create({ model: job.fine_tuned_model, messages })
  assert.ok(['yes', 'no'].includes(answer.choices[0].message.content))
  assert.ok((await client.files.delete(file.id)).deleted)
}

async function models() {
  const ids = (await client.models.list()).data.map(({ id }) => id)
  assert.ok(ids.includes(model) && ids.includes(`${model}:agreed`))
  assert.equal((await client.models.retrieve(model)).id, model)
  assert.ok((await client.models.delete(`${model}:agreed`)).deleted)
  await assert.rejects(client.models.retrieve(`${model}:agreed`), NotFoundError)
}

for (const part of [chat, stream, askTask, parse, responses, jobs, models]) {
  await part()
  console.log(part.name)
}
