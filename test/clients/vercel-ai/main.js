/** Vercel's AI SDK with its OpenAI provider. */
import assert from 'node:assert/strict'
import { createOpenAI } from '@ai-sdk/openai'
import { generateObject, generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const { ARCANA_MODEL: MODEL, ARCANA_TASK: TASK } = process.env
const LABELS = ['World', 'Sports', 'Business', 'Science']

const openai = createOpenAI({
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
})
const model = openai.chat(MODEL)
const prompt = 'The striker scored twice.'

async function text() {
  const { text } = await generateText({ model, prompt, maxOutputTokens: 24 })
  assert.ok(text)
}

async function stream() {
  const { textStream, usage } = streamText({ model, prompt, maxOutputTokens: 24 })
  let text = ''
  for await (const delta of textStream) text += delta
  assert.ok(text)
  assert.ok((await usage).outputTokens > 0)
}

const schema = z.object({ topic: z.enum(['weather', 'sports']), isGood: z.boolean() })

async function object() {
  const { object } = await generateObject({ model, prompt, schema })
  schema.parse(object)

  const { output } = await generateText({ model, prompt, output: Output.object({ schema }) })
  schema.parse(output)
}

async function tools() {
  const weather = tool({
    description: 'Says what the weather is like.',
    inputSchema: z.object({ city: z.enum(['Rome', 'Oslo']) }),
    execute: ({ city }) => `It rains in ${city}.`,
  })
  const { steps } = await generateText({
    model,
    prompt: 'How is the weather in Rome?',
    tools: { weather },
    toolChoice: 'required',
    maxOutputTokens: 64,
    stopWhen: stepCountIs(2),
  })
  assert.match(steps[0].toolResults[0].output, /^It rains in (Rome|Oslo)\.$/)
}

async function task() {
  const answer = await generateText({ model: openai.chat(`${MODEL}:${TASK}`), prompt })
  assert.ok(LABELS.includes(answer.text))
  assert.equal(answer.response.headers['x-arcana-task'], TASK)
  const headed = await generateText({ model, prompt, headers: { 'x-task': TASK } })
  assert.equal(headed.text, answer.text)
}

for (const part of [text, stream, object, tools, task]) {
  await part()
  console.log(part.name)
}
