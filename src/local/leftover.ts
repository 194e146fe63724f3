import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_INTERVAL_MS = 20
const KILL_TIMEOUT_MS = 5_000

/**
 * Ends the workerd process that a pid file names, if it still runs. The caller holds the home's
 * lock, so no other supervisor is using the process.
 */
export async function endLeftoverWorkerd(pidFile: string): Promise<void> {
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).trim())
  if (Number.isInteger(pid) && pid > 1 && (await commandOf(pid)).includes('workerd')) {
    kill(pid)
    const deadline = Date.now() + KILL_TIMEOUT_MS
    while (isAlive(pid) && Date.now() < deadline) await sleep(POLL_INTERVAL_MS)
  }
  await rm(pidFile, { force: true })
}

/**
 * The command line of a process, or '' if it is gone. Ids are reused, so an id alone proves
 * nothing.
 */
async function commandOf(pid: number): Promise<string> {
  const fromProc = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  if (fromProc !== '') return fromProc
  return new Promise((resolve) => {
    execFile('ps', ['-o', 'command=', '-p', String(pid)], (error, stdout) => {
      resolve(error ? '' : stdout)
    })
  })
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // already gone
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
