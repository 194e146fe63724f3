import { readFile } from 'node:fs/promises'

export const LABELS = ['World', 'Sports', 'Business', 'Science'] as const
export type Label = (typeof LABELS)[number]

export interface NewsLine {
  readonly input: string
  readonly label: Label
}

export interface NewsSplit {
  readonly training: readonly NewsLine[]
  readonly test: readonly NewsLine[]
}

const FILE = new URL('./news.jsonl', import.meta.url)

/** About a hundred lines written for this project, in four classes of equal size, shuffled. */
export async function readNews(): Promise<NewsLine[]> {
  const text = await readFile(FILE, 'utf8')
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as NewsLine)
}

/** Takes the first few lines of each class for training, and all others for the test. */
export function splitNews(lines: readonly NewsLine[], perClass: number): NewsSplit {
  const numTaken = new Map<Label, number>()
  const training: NewsLine[] = []
  const test: NewsLine[] = []
  for (const line of lines) {
    const taken = numTaken.get(line.label) ?? 0
    if (taken < perClass) {
      training.push(line)
      numTaken.set(line.label, taken + 1)
    } else {
      test.push(line)
    }
  }
  return { training, test }
}

export function toJsonLines(lines: readonly object[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('')
}
