/**
 * What tasks do to other knowledge: mmlu, arc_easy, hellaswag (the likeliest choice), lambada (the
 * last word), wikitext2 (perplexity), base against adapter, paired, through the product's own API.
 * Against the server at ARCANA_BASE_URL with ARCANA_API_KEY; or with `--adapter FILE` against one
 * that is started for it and given that adapter file.
 *
 * `npm run bench -- damage TASK…`, `--adapter FILE`, `--rows N` (100), `--sets a,b` (all),
 * `--data FOLDER` (../shared/data)
 */
import { access, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startStack } from '../fixtures/stack.ts'
import { measureDamage, type Call, type Damage } from './damage/measure.ts'
import { DAMAGE_SETS, readDamageSet } from './damage/sets.ts'

const DEFAULT_DATA = fileURLToPath(new URL('../../../shared/data', import.meta.url))
/** What an adapter given as a file is called while it is measured. */
const UPLOADED_TASK = 'damage-bench'

export async function run(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      adapter: { type: 'string' },
      rows: { type: 'string', default: '100' },
      sets: { type: 'string', default: DAMAGE_SETS.join(',') },
      data: { type: 'string', default: DEFAULT_DATA },
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
  const service = await openService(values.adapter)
  try {
    const tasks = values.adapter === undefined ? positionals : [...positionals, UPLOADED_TASK]
    if (tasks.length === 0) throw new Error('name a task, or give --adapter FILE')
    const results: Damage[] = []
    for (const name of values.sets.split(',')) {
      const set = await readDamageSet(values.data, name, numRows)
      for (const damage of await measureDamage(service.call, tasks, set)) {
        console.log(JSON.stringify(damage))
        results.push(damage)
      }
    }
    printTable(results)
  } finally {
    await service.stop()
  }
}

async function openService(
  adapter: string | undefined,
): Promise<{ readonly call: Call; readonly stop: () => Promise<void> }> {
  const { ARCANA_BASE_URL: baseUrl, ARCANA_API_KEY: apiKey } = process.env
  if (adapter === undefined) {
    if (baseUrl === undefined || apiKey === undefined) {
      throw new Error('set ARCANA_BASE_URL and ARCANA_API_KEY, or give --adapter FILE')
    }
    return { call: callerOf(baseUrl, apiKey), stop: () => Promise.resolve() }
  }
  const bytes = await readFile(adapter)
  const stack = await startStack()
  const call = callerOf(stack.baseUrl, stack.apiKey)
  try {
    const form = new FormData()
    form.set('file', new Blob([bytes]), 'adapter.safetensors')
    await call(`/tasks/${UPLOADED_TASK}/versions`, form)
  } catch (error) {
    await stack.stop()
    throw error
  }
  return { call, stop: () => stack.stop() }
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

function printTable(results: readonly Damage[]): void {
  const number = (value: number, digits = 3): string => value.toFixed(digits)
  const rows = results.flatMap(({ task, set, numItems, accuracy, perplexity, baseAfterwards }) =>
    [
      { measure: 'accuracy', figures: accuracy },
      { measure: 'perplexity', figures: perplexity },
    ].flatMap(({ measure, figures }) => {
      if (figures === null) return []
      const { base, adapter, difference } = figures
      const unit = measure === 'accuracy' ? '' : ' nats'
      return [
        {
          task,
          set,
          measure,
          n: numItems,
          base: number(base),
          adapter: number(adapter),
          difference:
            `${number(difference.mean)} [${number(difference.low)}, ${number(difference.high)}]` +
            unit,
          'base again': baseAfterwards === 0 ? 'same bits' : `differs by ${baseAfterwards}`,
        },
      ]
    }),
  )
  console.table(rows)
}
