/** Continuations through `POST /v1/compare`, their grades, and how likely the base model finds them. */
import { Template } from '@huggingface/jinja'
import type OpenAI from 'openai'
import type { Comparison } from '../../../src/protocol/arcana/compare.ts'
import type { CompletionLogprobs } from '../../../src/protocol/openai/completions.ts'
import { compareRows, MODEL, type Message } from '../tasks/service.ts'
import { TASK_SETS } from '../tasks/sets.ts'
import type { GenerationSet, Prompt } from './sets.ts'

/** Number of concurrent comparisons. */
const NUM_CONCURRENT = 6
/** Number of texts in one request. */
const BATCH_LEN = 32

export type Sampling = {
  readonly seed: number
  readonly max_tokens: number
  readonly temperature: number
}

export type Continuation = { readonly text: string; readonly numTokens: number }

/** A judge's task by the set that it was fitted to. */
export type Judges = { readonly grader: string; readonly second: string }

/** One column: the continuations of all prompts. */
export type Column = {
  readonly continuations: readonly Continuation[]
  /** Probabilities that the job's grader and the second judge give each text. */
  readonly grades: readonly number[]
  readonly secondGrades: readonly number[]
  /** Log probability of each text under the base model, after the neutral prompt, and its tokens. */
  readonly logProbs: readonly number[]
  readonly sizes: readonly number[]
}

/**
 * Goes on from each prompt under the base model and each task, one seed a prompt for all.
 * @param asked what the last column's base model is told instead
 * @returns columns `base`, those of the tasks by name, and `asked`
 */
export async function measureColumns(
  openai: OpenAI,
  set: GenerationSet,
  tasks: Readonly<Record<string, string>>,
  judges: Judges,
  prompts: readonly Prompt[],
  sampling: Sampling,
): Promise<Record<string, Column>> {
  const arms = ['base', ...Object.values(tasks)]
  const own = await goOn(openai, set.instructions, arms, prompts, sampling)
  const [asked] = await goOn(openai, set.asked, ['base'], prompts, sampling)
  const names = ['base', ...Object.keys(tasks), 'asked']
  const texts = [...own, asked!]
  const columns: Record<string, Column> = {}
  for (const [i, name] of names.entries()) {
    const continuations = texts[i]!
    columns[name] = {
      continuations,
      grades: await gradeTexts(openai, set, judges.grader, continuations),
      secondGrades: await gradeTexts(openai, set, judges.second, continuations),
      ...(await scoreUnderBase(openai, set.instructions, prompts, continuations)),
    }
  }
  return columns
}

/** @returns [arm][prompt] */
async function goOn(
  openai: OpenAI,
  instructions: string,
  arms: readonly string[],
  prompts: readonly Prompt[],
  { seed, ...sampling }: Sampling,
): Promise<Continuation[][]> {
  const results: Continuation[][] = arms.map(() => [])
  let next = 0
  const work = async (): Promise<void> => {
    for (let i = next++; i < prompts.length; i = next++) {
      const { row, input } = prompts[i]!
      const answer = await openai.post<Comparison>('/compare', {
        body: { messages: messagesOf(instructions, input), arms, ...sampling, seed: seed + row },
      })
      for (const [k, arm] of answer.arms.entries()) {
        const isOwn = k === 0 ? arm.arcana.task === null : arm.arcana.task === arms[k]
        if (!isOwn) throw new Error(`row ${row} was not answered by ${arms[k]!}`)
        results[k]![i] = { text: arm.message.content, numTokens: arm.usage.completion_tokens }
      }
    }
  }
  await Promise.all(Array.from({ length: NUM_CONCURRENT }, work))
  return results
}

const messagesOf = (instructions: string, input: string): Message[] => [
  { role: 'system', content: instructions },
  { role: 'user', content: input },
]

/** The probability that a judge's task gives its label to each text. */
async function gradeTexts(
  openai: OpenAI,
  { grader }: GenerationSet,
  judge: string,
  texts: readonly Continuation[],
): Promise<number[]> {
  const words = Object.values(TASK_SETS[grader.set]!.words)
  const rows = texts.map(({ text }) => ({ input: text, word: grader.label }))
  const [, answers] = await compareRows(openai, [judge], rows, words)
  return answers!.map((logProbs) => Math.exp(logProbs[words.indexOf(grader.label)]!))
}

/** Log probability of each text's tokens under the base model after the neutral prompt, by echo. */
async function scoreUnderBase(
  openai: OpenAI,
  instructions: string,
  prompts: readonly Prompt[],
  texts: readonly Continuation[],
): Promise<Pick<Column, 'logProbs' | 'sizes'>> {
  const template = new Template(await chatTemplate(openai))
  const given = prompts.map(({ input }, i) => {
    const messages = messagesOf(instructions, input)
    const before = template.render({ messages, add_generation_prompt: true })
    return { before, whole: before + texts[i]!.text }
  })
  const logProbs: number[] = []
  const sizes: number[] = []
  for (let at = 0; at < given.length; at += BATCH_LEN) {
    const batch = given.slice(at, at + BATCH_LEN)
    const { choices } = await openai.completions.create({
      model: MODEL,
      prompt: batch.map(({ whole }) => whole),
      max_tokens: 0,
      echo: true,
      logprobs: 0,
    })
    for (const [i, { before, whole }] of batch.entries()) {
      const { text_offset, token_logprobs } = choices[i]!.logprobs as CompletionLogprobs
      const own = text_offset.flatMap((offset, token) =>
        offset >= before.length && offset < whole.length ? [token_logprobs[token]!] : [],
      )
      logProbs.push(own.reduce((sum, value) => sum + value, 0))
      sizes.push(own.length)
    }
  }
  return { logProbs, sizes }
}

async function chatTemplate(openai: OpenAI): Promise<string> {
  const url = `${new URL(openai.baseURL).origin}/tokenizer_info`
  const headers = { authorization: `Bearer ${openai.apiKey}` }
  const response = await fetch(url, { headers })
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`)
  const { chat_template: template } = (await response.json()) as { chat_template: string | null }
  if (template === null) throw new Error('the model holds no chats')
  return template
}
