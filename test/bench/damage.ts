/**
 * Measures how much a task harms other knowledge: mmlu, arc_easy and hellaswag (the likeliest
 * choice), lambada (the last word), wikitext2 (perplexity). It compares base and adapter item by
 * item through the product's own API, at the server of ARCANA_BASE_URL with ARCANA_API_KEY or at
 * one that it starts.
 *
 * `npm run bench -- damage TASK…`, `--adapter FILE` to bring one in, `--learn SET,…` to learn some from
 * twenty examples by `--optimizer NAME` (gradient) and `--seed N` (0); `--rows N` (100), `--split NAME`
 * (validation), `--sets a,b` (all), `--data FOLDER` (../shared/data), `--out FOLDER` for `damage.json`
 * and `damage.md`
 */
import { access, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type OpenAI from 'openai'
import { measureDamage, type Call, type Damage } from './damage/measure.ts'
import { DAMAGE_SETS, readDamageSet } from './damage/sets.ts'
import { toMarkdown } from './damage/table.ts'
import { writeResults } from './results/write.ts'
import { drawBalanced } from './tasks/draw.ts'
import { deleteTasks, learnPublished, openService, uploadRows } from './tasks/service.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'

const DEFAULT_DATA = fileURLToPath(new URL('../../../shared/data', import.meta.url))
/** The task's name for an adapter from a file. */
const UPLOADED_TASK = 'damage-bench'
const NUM_TRAIN_ROWS = 20
const DEFAULT_NUM_TRIALS = 150

export async function run(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      adapter: { type: 'string' },
      learn: { type: 'string' },
      optimizer: { type: 'string', default: 'gradient' },
      seed: { type: 'string', default: '0' },
      rows: { type: 'string', default: '100' },
      split: { type: 'string', default: 'validation' },
      sets: { type: 'string', default: DAMAGE_SETS.join(',') },
      data: { type: 'string', default: DEFAULT_DATA },
      out: { type: 'string' },
    },
  })
  const numRows = Number(values.rows)
  if (!Number.isInteger(numRows) || numRows < 2) throw new Error('--rows is an integer from 2 on')
  const isThere = await access(values.data).then(
    () => true,
    () => false,
  )
  if (!isThere) {
    console.log(`skipped: there is no folder ${values.data}`)
    return
  }
  const service = await openService()
  const call = callerOf(service.baseUrl, service.apiKey)
  const titles = new Map<string, string>()
  try {
    const tasks = [...positionals]
    if (values.adapter !== undefined) {
      await upload(call, await readFile(values.adapter))
      tasks.push(UPLOADED_TASK)
    }
    for (const set of values.learn?.split(',') ?? []) {
      const task = await learn(service.openai, set, values.optimizer, Number(values.seed))
      titles.set(task, `${set} by ${values.optimizer}`)
      tasks.push(task)
    }
    if (tasks.length === 0) throw new Error('name a task, or give --adapter FILE or --learn SET,…')
    const results: Damage[] = []
    for (const name of values.sets.split(',')) {
      const set = await readDamageSet(values.data, name, numRows, values.split)
      for (const damage of await measureDamage(call, tasks, set)) {
        const named = { ...damage, task: titles.get(damage.task) ?? damage.task }
        console.log(JSON.stringify(named))
        results.push(named)
      }
    }
    const markdown = toMarkdown(results, values.split)
    console.log(markdown)
    if (values.out === undefined) return
    await writeResults(values.out, {
      'damage.md': markdown,
      'damage.json': { split: values.split, results },
    })
  } finally {
    await deleteTasks(service.openai, [...titles.keys()])
    await service.stop()
  }
}

async function upload(call: Call, adapter: Uint8Array<ArrayBuffer>): Promise<void> {
  const form = new FormData()
  form.set('file', new Blob([adapter]), 'adapter.safetensors')
  await call(`/tasks/${UPLOADED_TASK}/versions`, form)
}

/** @returns the task's name */
async function learn(
  openai: OpenAI,
  set: string,
  optimizer: string,
  seed: number,
): Promise<string> {
  const pool = readRows(set, 'train')
  if (pool === null) throw new Error(`../shared/data/${set} is not beside this checkout`)
  const { instructions, words: wordOf } = TASK_SETS[set]!
  const words = Object.values(wordOf)
  const file = await uploadRows(openai, drawBalanced(pool, words, seed, NUM_TRAIN_ROWS))
  const numTrials = DEFAULT_NUM_TRIALS
  const lesson = { name: set, file, seed, optimizer, numTrials, instructions, words }
  return learnPublished(openai, lesson)
}

export const callerOf =
  (baseUrl: string, apiKey: string): Call =>
  async (path, body, headers = {}) => {
    const isForm = body instanceof FormData
    const response = await fetch(baseUrl + path, {
      headers: {
        authorization: `Bearer ${apiKey}`,
        ...(body === undefined || isForm ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { method: 'POST', body: isForm ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${path}: HTTP ${response.status} ${text}`)
    return JSON.parse(text) as unknown
  }
