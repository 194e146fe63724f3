import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { format, resolveConfig } from 'prettier'

/** What Prettier knows; the others are written as they are. */
const FORMATTED: ReadonlySet<string> = new Set(['.md', '.json'])

/**
 * Writes a bench's results, formatted as the repository's own files are.
 * @param files text by file name; anything that is no text as JSON
 */
export async function writeResults(
  folder: string,
  files: Readonly<Record<string, unknown>>,
): Promise<void> {
  await mkdir(folder, { recursive: true })
  const config = await resolveConfig(import.meta.filename)
  for (const [name, content] of Object.entries(files)) {
    const text = typeof content === 'string' ? content : JSON.stringify(content)
    const isFormatted = FORMATTED.has(path.extname(name))
    await writeFile(
      path.join(folder, name),
      isFormatted ? await format(text, { ...config, filepath: name }) : text,
    )
  }
}
