/** The lines of docs/clients.md are those that `npm run test:clients` runs. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'vitest'

const CLIENTS = fileURLToPath(new URL('../clients', import.meta.url))
const DOCS = readFileSync(new URL('../../docs/clients.md', import.meta.url), 'utf8')

/** The folder of a section's library. */
const FOLDER_OF: Readonly<Record<string, string>> = {
  'OpenAI, Python': 'openai-python',
  'OpenAI, JavaScript': 'openai-javascript',
  'Vercel AI SDK': 'vercel-ai',
  'OpenAI Agents': 'openai-agents',
  'Pydantic AI': 'pydantic-ai',
  LlamaIndex: 'llama-index',
}
const folderOf = (title: string): string => FOLDER_OF[title] ?? title.toLowerCase()
const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')

const sections = DOCS.split(/^## /m)
  .slice(1)
  .map((text): [string, string[][]] => [
    text.slice(0, text.indexOf('\n')),
    Array.from(text.matchAll(/^```\w+\n([^]*?)^```/gm), ([, code]) => linesOf(code!)),
  ])

describe('docs/clients.md', () => {
  it.for(sections)('shows lines that run: %s', ([title, blocks], { expect }) => {
    const folder = `${CLIENTS}/${folderOf(title)}`
    const programs = readdirSync(folder)
      .filter((file) => /\.(py|js|yaml)$/.test(file))
      .map((file) => linesOf(readFileSync(`${folder}/${file}`, 'utf8')))
    expect(blocks.length).toBeGreaterThan(0)
    for (const block of blocks) {
      const missing = programs.map((lines) => firstMissing(block, lines))
      expect.soft(missing, block.join('\n')).toContain(null)
    }
  })

  it('has a section for each library', ({ expect }) => {
    const folders = readdirSync(CLIENTS, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name !== 'random-pydantic')
      .map(({ name }) => name)
    expect(sections.map(([title]) => folderOf(title)).sort()).toEqual(folders.sort())
  })
})

/** @returns the first line that the program lacks after the lines before it; null if it has all */
function firstMissing(block: readonly string[], program: readonly string[]): string | null {
  let from = 0
  for (const line of block) {
    const at = program.indexOf(line, from)
    if (at < 0) return line
    from = at + 1
  }
  return null
}
