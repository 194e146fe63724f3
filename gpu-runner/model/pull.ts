import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { CatalogueEntry, ModelSource } from './catalogue.ts'
import { Progress, type ProgressOutput } from './progress.ts'
import { readSource } from './sources.ts'

/** Folders of a pull in progress; one left behind by a killed process is removed after a day. */
const SCRATCH_PREFIX = '.pull-'
const STALE_SCRATCH_MS = 24 * 60 * 60 * 1000
const READ_CHUNK_BYTES = 1 << 20

export interface PullOptions {
  /** The folder in which the file is kept, and looked for first. */
  readonly directory: string
  readonly env?: NodeJS.ProcessEnv
  readonly output?: ProgressOutput
  readonly signal?: AbortSignal
}

/** No source gave the bytes that the catalogue's digest names. */
class PullError extends Error {
  override readonly name = 'PullError'
}

/** The models' folder: `ARCANA_MODEL_CACHE`, or `models` in `ARCANA_HOME` (by default `.arcana`). */
export function modelDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return resolve(env['ARCANA_MODEL_CACHE'] ?? join(env['ARCANA_HOME'] ?? '.arcana', 'models'))
}

/**
 * Returns the path of a model's file, and fetches the file if the folder lacks it. Either way the
 * file has just been checked against the catalogue's digest. Several processes may pull at once: each
 * writes to a folder of its own and renames the checked file into place.
 * @throws {PullError} no source gave the right bytes; names each source and its failure
 */
export async function pullModel(entry: CatalogueEntry, options: PullOptions): Promise<string> {
  const output = options.output ?? process.stderr
  const path = join(options.directory, entry.file)
  await mkdir(options.directory, { recursive: true })
  await removeStaleScratch(options.directory)
  if (await isComplete(path, entry, output)) return path

  const failures: string[] = []
  for (const source of entry.sources) {
    const name = nameOf(source)
    const scratchDir = join(options.directory, SCRATCH_PREFIX + randomUUID())
    const progress = new Progress(output, `fetching ${entry.slug} from ${name}`)
    try {
      await mkdir(scratchDir)
      const bytes = readSource(source, {
        scratchDir,
        env: options.env ?? process.env,
        signal: options.signal,
        onProgress: (done, total) => {
          progress.update(done, total)
        },
      })
      const part = join(scratchDir, entry.file)
      await writeChecked(part, bytes, entry)
      await rename(part, path)
      progress.finish()
      return path
    } catch (error) {
      progress.finish()
      options.signal?.throwIfAborted()
      const reason = error instanceof Error ? error.message : String(error)
      failures.push(`${name}: ${reason}`)
      output.write(`${name} did not bring ${entry.file}: ${reason}\n`)
    } finally {
      await rm(scratchDir, { recursive: true, force: true })
    }
  }
  throw new PullError(`could not fetch ${entry.slug}: ${failures.join('; ')}`)
}

function nameOf(source: ModelSource): string {
  if (source.kind === 'url') return new URL(source.url).host
  const others = source.parts.length - 1
  return `pip (${source.parts[0]?.requirement ?? ''}${others > 0 ? ` and ${others} more` : ''})`
}

/** Whether the cached file has the catalogue's digest; if not, it is deleted. */
async function isComplete(
  path: string,
  entry: CatalogueEntry,
  output: ProgressOutput,
): Promise<boolean> {
  const info = await stat(path).catch(() => null)
  if (!info) return false
  if (info.size === entry.sizeBytes) {
    const hash = createHash('sha256')
    const stream = createReadStream(path, { highWaterMark: READ_CHUNK_BYTES })
    for await (const chunk of stream as AsyncIterable<Uint8Array>) hash.update(chunk)
    if (hash.digest('hex') === entry.sha256) return true
  }
  output.write(`${path} is not ${entry.slug} as catalogued; deleted\n`)
  await rm(path, { force: true })
  return false
}

async function writeChecked(
  path: string,
  bytes: AsyncIterable<Uint8Array>,
  entry: CatalogueEntry,
): Promise<void> {
  const hash = createHash('sha256')
  let sizeBytes = 0
  const file = await open(path, 'wx')
  try {
    for await (const chunk of bytes) {
      sizeBytes += chunk.length
      if (sizeBytes > entry.sizeBytes) {
        throw new PullError(`more than the catalogued ${entry.sizeBytes} bytes`)
      }
      hash.update(chunk)
      await file.writeFile(chunk)
    }
    const digest = hash.digest('hex')
    if (sizeBytes !== entry.sizeBytes || digest !== entry.sha256) {
      throw new PullError(
        `${sizeBytes} bytes of SHA-256 ${digest}; the catalogue says ${entry.sizeBytes} of ${entry.sha256}`,
      )
    }
    // Flushed before it is renamed, so that a power cut cannot leave wrong bytes under the right name.
    await file.sync()
  } finally {
    await file.close()
  }
}

async function removeStaleScratch(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith(SCRATCH_PREFIX)) continue
    const path = join(directory, name)
    const info = await stat(path).catch(() => null)
    if (info && Date.now() - info.mtimeMs > STALE_SCRATCH_MS) {
      await rm(path, { recursive: true, force: true })
    }
  }
}
