/**
 * Measures the cost of long labels. `gradient` learns twenty examples with two labels, which have
 * one token to dozens: plain words, and emoji joined from others. It prints the tokens of each
 * label, the job's seconds, and the extra seconds per token beyond the first.
 * `npm run bench -- labels [--turns N (3)]`
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import OpenAI, { toFile } from 'openai'
import { BASE_MODEL } from '../fixtures/api.ts'
import { startStack, type Stack } from '../fixtures/stack.ts'
import { median } from './engine/statistics.ts'

const WORDS = 'good bad nice awful great poor fine sad happy angry warm cold kind rude calm loud'
const LABELS: Readonly<Record<string, readonly [string, string]>> = {
  'one token': ['yes', 'no'],
  'plain words': [
    'the customer asks for a refund of what was paid twice by mistake last week',
    'the customer asks for a change of the address that is on the invoice',
  ],
  'joined emoji': ['👩‍👩‍👧‍👦', '👨‍👨‍👦‍👦'],
  'more joined emoji': ['👩🏽‍❤️‍💋‍👨🏿', '🏴󠁧󠁢󠁥󠁮󠁧󠁿'],
}

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { turns: { type: 'string', default: '3' } },
  })
  const stack = await startStack()
  try {
    const client = new OpenAI({ baseURL: stack.baseUrl, apiKey: stack.apiKey })
    const seconds = new Map<string, number[]>()
    // The first job loads the training graph.
    await learn(client, ['warm', 'up'])
    for (let turn = 0; turn < Number(values.turns); turn++) {
      for (const [name, labels] of Object.entries(LABELS)) {
        const own = seconds.get(name) ?? []
        own.push(await learn(client, labels))
        seconds.set(name, own)
      }
    }
    const shortest = median(seconds.get('one token')!)
    for (const [name, labels] of Object.entries(LABELS)) {
      const tokens = await Promise.all(labels.map((label) => countTokens(stack, label)))
      const own = median(seconds.get(name)!)
      const more = tokens.reduce((sum, count) => sum + count, 0) - labels.length
      console.log(
        JSON.stringify({
          labels: name,
          tokens,
          seconds: seconds.get(name)!.map((value) => Math.round(value * 10) / 10),
          times_one_token: Math.round((100 * own) / shortest) / 100,
          ms_a_token_more: more === 0 ? 0 : Math.round((1000 * (own - shortest)) / more),
        }),
      )
    }
  } finally {
    await stack.stop()
  }
}

async function learn(client: OpenAI, labels: readonly [string, string]): Promise<number> {
  const lines = WORDS.split(' ').map((word, i) =>
    JSON.stringify({ input: `It was a ${word} thing to see today.`, label: labels[i % 2] }),
  )
  const file = await client.files.create({
    purpose: 'fine-tune',
    file: await toFile(Buffer.from(lines.join('\n')), 'labels.jsonl'),
  })
  const method = {
    type: 'rotation',
    rotation: { instructions: 'Classify.', hyperparameters: { optimizer: 'gradient' } },
  }
  const startedAtMs = performance.now()
  const { id } = await client.fineTuning.jobs.create({
    model: BASE_MODEL,
    training_file: file.id,
    method: method as never,
  })
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id)
    if (job.finished_at !== null) return (performance.now() - startedAtMs) / 1000
    await sleep(20)
  }
}

async function countTokens(stack: Stack, text: string): Promise<number> {
  const response = await fetch(new URL('/tokenize', stack.baseUrl), {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: text, add_special_tokens: false }),
  })
  return ((await response.json()) as { tokens: unknown[] }).tokens.length
}
