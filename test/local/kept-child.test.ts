import { spawn, type ChildProcess } from 'node:child_process'
import { describe, it } from 'vitest'
import { KeptChild } from '../../src/local/kept-child.ts'
import { isRunning, until } from '../fixtures/stack.ts'

const READY = 'console.log(JSON.stringify({ event: "ready" }));'
const LISTEN = 'process.stdin.on("end", () => process.exit(0)).resume();'

function keep(source: string) {
  const lines: string[] = []
  const pids: (number | null)[] = []
  const child = new KeptChild({
    name: 'thing',
    log: (line) => lines.push(line),
    onPid: (pid) => pids.push(pid),
    spawn: (): ChildProcess =>
      spawn(process.execPath, ['-e', source], { stdio: ['pipe', 'pipe', 'ignore'] }),
  })
  return { child, lines, pids }
}

describe('KeptChild', () => {
  it('waits for readiness, passes other output on, and stops by the lifeline', async ({
    expect,
  }) => {
    const { child, lines, pids } = keep(`console.log('hello'); ${LISTEN} ${READY}`)
    await child.start()
    expect(lines).toEqual(['thing: hello'])
    const pid = pids.at(-1)!
    await child.stop()
    expect(await isRunning(pid)).toBe(false)
    expect(pids.at(-1)).toBeNull()
    expect(lines.join()).not.toContain('again')
  })

  it('fails if the child ends before it is ready', async ({ expect }) => {
    const { child, pids } = keep('process.exit(3)')
    await expect(child.start()).rejects.toThrow('the thing ended with status 3 before it was ready')
    expect(pids).toHaveLength(2)
  })

  it('restarts a killed child, after a longer wait each time it dies early', async ({ expect }) => {
    const { child, lines, pids } = keep(`${LISTEN} ${READY}`)
    await child.start()
    for (const delay of [250, 500]) {
      const before = pids.at(-1)!
      process.kill(before, 'SIGKILL')
      await until('it is back', () => pids.at(-1) !== before && pids.at(-1) !== null, 10_000)
      expect(lines).toContain(`the thing was ended by SIGKILL; starting it again in ${delay} ms`)
    }
    await child.stop()
  })

  it('kills a child that ignores its end', async ({ expect }) => {
    const { child, pids } = keep(`setInterval(() => {}, 1000); ${READY}`)
    await child.start()
    const pid = pids.at(-1)!
    await child.stop()
    expect(await isRunning(pid)).toBe(false)
  })

  it('does not restart a child if it is stopped during the wait', async ({ expect }) => {
    const { child, pids, lines } = keep(`${LISTEN} ${READY}`)
    await child.start()
    process.kill(pids.at(-1)!, 'SIGKILL')
    await until('its end is noticed', () => lines.length > 0, 5_000)
    await child.stop()
    const { length } = pids
    await new Promise((resolve) => setTimeout(resolve, 600))
    expect(pids).toHaveLength(length)
  })
})
