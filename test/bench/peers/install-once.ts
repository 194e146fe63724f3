import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const BENCH_DIR = fileURLToPath(new URL('../../../.arcana/bench', import.meta.url))

/** Runs an installation once; a folder without its marker is incomplete and is made again. */
export async function installOnce(
  name: string,
  install: (into: string) => Promise<void>,
): Promise<string> {
  const folder = path.join(BENCH_DIR, name)
  const marker = path.join(folder, 'installed')
  if (await stat(marker).catch(() => null)) return folder
  await rm(folder, { recursive: true, force: true })
  await mkdir(BENCH_DIR, { recursive: true })
  await install(folder)
  await writeFile(`${marker}.tmp`, '')
  await rename(`${marker}.tmp`, marker)
  return folder
}
