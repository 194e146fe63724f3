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
// Over responses, its default; `openai.chat(MODEL)` is over chat completions.
const model = openai(MODEL)
const prompt = 'The striker scored twice.'

async function text() {
  const { text } = await generateText({ model, prompt, maxOutputTokens: 24 })
  assert.ok(text)
  const chat = await generateText({ model: openai.chat(MODEL), prompt, maxOutputTokens: 24 })
  assert.ok(chat.text)
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

async function history() {
  const asked = [{ role: 'user', content: prompt }]
  const { responseMessages } = await generateText({ model, messages: asked, maxOutputTokens: 24 })
  const messages = [...asked, ...responseMessages, { role: 'user', content: 'And then?' }]
  const { text } = await generateText({
    model,
    messages,
    maxOutputTokens: 24,
    providerOptions: { openai: { store: false } },
  })
  assert.ok(text)
  // Otherwise it sends references to stored items, and nothing is stored here.
  await assert.rejects(generateText({ model, messages }), /item_reference/)
}

async function task() {
  const answer = await generateText({ model: openai(`${MODEL}:${TASK}`), prompt })
  assert.ok(LABELS.includes(answer.text))
  assert.equal(answer.response.headers['x-arcana-task'], TASK)
  const headed = await generateText({ model, prompt, headers: { 'x-task': TASK } })
  assert.equal(headed.text, answer.text)
}

for (const part of [text, stream, object, tools, history, task]) {
  await part()
  console.log(part.name)
}
