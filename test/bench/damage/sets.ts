/** Other knowledge that an adapter could damage, as texts to score. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** A text and the continuations to score after it. */
export type Item = {
  readonly context: string
  readonly continuations: readonly string[]
  /** Index of the right continuation; 0 if there is only one. */
  readonly gold: number
}

export type DamageSet = {
  readonly name: string
  /**
   * How an item is scored: by the likeliest choice (per character if `perCharacter`), by the greedy
   * continuation, or by the text's probability.
   */
  readonly kind: 'choice' | 'target' | 'text'
  readonly perCharacter: boolean
  readonly items: readonly Item[]
}

type Row = {
  readonly input: string
  readonly choices?: readonly string[]
  readonly answer_index?: number
  readonly target?: string
}

const LETTERS = ['A', 'B', 'C', 'D', 'E', 'F']
/** Characters of a scored stretch of wikitext2, about 400 tokens, and of what stands before it. */
const WINDOW_CHARS = 1500
const WINDOW_CONTEXT_CHARS = 250

/** Prompts in the form of lm-evaluation-harness' tasks of the same names, without shots. */
const READERS: Readonly<
  Record<string, Omit<DamageSet, 'name' | 'items'> & { read: (row: Row) => Item[] }>
> = {
  mmlu: {
    kind: 'choice',
    perCharacter: false,
    read: ({ input, choices = [], answer_index: gold = 0 }) => {
      const lines = choices.map((choice, i) => `${LETTERS[i]!}. ${choice}`)
      const context = [input.trim(), ...lines, 'Answer:'].join('\n')
      return [{ context, continuations: choices.map((_, i) => ` ${LETTERS[i]!}`), gold }]
    },
  },
  arc_easy: {
    kind: 'choice',
    perCharacter: false,
    read: ({ input, choices = [], answer_index: gold = 0 }) => [
      {
        context: `Question: ${input}\nAnswer:`,
        continuations: choices.map((choice) => ` ${choice}`),
        gold,
      },
    ],
  },
  hellaswag: {
    kind: 'choice',
    perCharacter: true,
    read: ({ input, choices = [], answer_index: gold = 0 }) => [
      { context: input.trim(), continuations: choices.map((choice) => ` ${choice.trim()}`), gold },
    ],
  },
  lambada: {
    kind: 'target',
    perCharacter: false,
    read: ({ input, target = '' }) => [{ context: input, continuations: [` ${target}`], gold: 0 }],
  },
  wikitext2: { kind: 'text', perCharacter: false, read: ({ input }) => windowsOf(input) },
}

export const DAMAGE_SETS: readonly string[] = Object.keys(READERS)

/**
 * The first items of a set's split (its rows are shuffled already).
 * @throws {Error} the folder has no such set, or the set is unknown
 */
export async function readDamageSet(
  folder: string,
  name: string,
  maxItems: number,
  split: string,
): Promise<DamageSet> {
  const text = await readFile(join(folder, name, `${split}.jsonl`), 'utf8')
  return toDamageSet(
    name,
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Row),
    maxItems,
  )
}

/** @throws {Error} the set is unknown */
export function toDamageSet(name: string, rows: readonly Row[], maxItems: number): DamageSet {
  const reader = READERS[name]
  if (reader === undefined) throw new Error(`no set "${name}"; there are ${DAMAGE_SETS.join(', ')}`)
  const items: Item[] = []
  for (const row of rows) {
    if (items.length >= maxItems) break
    items.push(...reader.read(row))
  }
  return { name, ...reader, items: items.slice(0, maxItems) }
}

/** Parts of an article, each with the text before it; cut before a space. */
function windowsOf(article: string): Item[] {
  const windows: Item[] = []
  let from = 0
  while (article.length - from > WINDOW_CONTEXT_CHARS + 1) {
    const middle = article.indexOf(' ', from + WINDOW_CONTEXT_CHARS)
    if (middle < 0) break
    const cut = article.indexOf(' ', middle + WINDOW_CHARS)
    const end = cut < 0 ? article.length : cut
    windows.push({
      context: article.slice(from, middle),
      continuations: [article.slice(middle, end)],
      gold: 0,
    })
    from = end
  }
  return windows
}
