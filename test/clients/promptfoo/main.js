/** promptfoo's command line, on the configuration beside this file. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ENTRY = fileURLToPath(import.meta.resolve('promptfoo')).replace(/[^/]*$/, 'entrypoint.js')
const home = await mkdtemp(join(tmpdir(), 'arcana-promptfoo-'))
try {
  const out = join(home, 'results.json')
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [ENTRY, 'eval', '--no-cache', '--no-share', '--output', out],
    {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      env: {
        ...process.env,
        PROMPTFOO_CONFIG_DIR: home,
        PROMPTFOO_DISABLE_TELEMETRY: '1',
        PROMPTFOO_DISABLE_UPDATE: '1',
      },
    },
  )
  assert.equal(status, 0, stdout + stderr)
  const { results } = JSON.parse(await readFile(out, 'utf8'))
  assert.equal(results.stats.successes, 2, stdout)
  console.log('eval')
} finally {
  await rm(home, { recursive: true, force: true })
}
