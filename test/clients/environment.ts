import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runProgram } from './run-program.ts'

const CACHE = fileURLToPath(new URL('../../.arcana/clients', import.meta.url))
const INSTALL_TIMEOUT_MS = 900_000

/** A library that is ready to run. */
export type Installed = {
  readonly name: string
  /** The pinned packages, on one line. */
  readonly pins: string
  readonly command: readonly string[]
  /** The script's copy, beside its installed imports. */
  readonly folder: string
  /** The home folder for the script, because some libraries keep caches and settings there. */
  readonly home: string
  /** Whether this run installed it. */
  readonly isNew: boolean
}

/** How one language's libraries are pinned, installed and started. */
type Language = {
  readonly pinFile: string
  readonly pinsOf: (text: string) => readonly string[]
  /** Commands to run in the copy, in this order. */
  readonly install: readonly (readonly string[])[]
  readonly command: readonly string[]
  /** Files that the installation makes. */
  readonly made: string
}

const PYTHON: Language = {
  pinFile: 'requirements.txt',
  pinsOf: (text) => text.trim().split('\n'),
  install: [
    ['python3', '-m', 'venv', '--clear', 'venv'],
    ['venv/bin/python', '-m', 'pip', 'install', '--quiet', '--requirement', 'requirements.txt'],
  ],
  command: ['venv/bin/python', 'main.py'],
  made: 'venv',
}

const JAVASCRIPT: Language = {
  pinFile: 'package.json',
  pinsOf: (text) =>
    Object.entries((JSON.parse(text) as { dependencies: Record<string, string> }).dependencies).map(
      ([name, version]) => `${name}@${version}`,
    ),
  // promptfoo's optional dependencies are a gigabyte of clients for other services.
  install: [
    ['npm', 'install', '--prefix', '.', '--no-package-lock', '--ignore-scripts', '--omit=optional'],
  ],
  command: [process.execPath, 'main.js'],
  made: 'node_modules',
}

/**
 * Copies a library's folder to the cache and installs its pinned packages there, unless they are.
 * @throws {Error} with the output of pip or npm
 */
export async function prepare(
  name: string,
  source = join(import.meta.dirname, name),
): Promise<Installed> {
  const folder = join(CACHE, name)
  const language = [PYTHON, JAVASCRIPT].find(({ pinFile }) => existsSync(join(source, pinFile)))
  if (language === undefined) throw new Error(`${name} pins nothing`)
  const home = join(folder, 'home')
  await mkdir(home, { recursive: true })
  await cp(source, folder, { recursive: true })

  const pinned = await readFile(join(source, language.pinFile), 'utf8')
  const stampFile = join(folder, 'installed')
  const stamp = createHash('sha256')
    .update(JSON.stringify([pinned, language.install]))
    .digest('hex')
  const isNew = (await readFile(stampFile, 'utf8').catch(() => '')) !== stamp
  if (isNew) {
    await rm(stampFile, { force: true })
    await rm(join(folder, language.made), { recursive: true, force: true })
    for (const command of language.install) {
      const { code, output } = await runProgram(command, {
        cwd: folder,
        timeoutMs: INSTALL_TIMEOUT_MS,
        env: {},
      })
      if (code !== 0) throw new Error(`${name}: ${command.join(' ')} failed\n${output}`)
    }
    await writeFile(stampFile, stamp)
  }
  const pins = language.pinsOf(pinned).join(', ')
  return { name, pins, command: language.command, folder, home, isNew }
}
