import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { format, resolveConfig } from 'prettier'

/** Prettier formats these; other files are written unchanged. */
const FORMATTED: ReadonlySet<string> = new Set(['.md', '.json'])

/**
 * Writes a bench's results, formatted as the repository's own files are.
 * @param files content by file name; content other than text is written as JSON
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
