import { once } from 'node:events'
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { startService } from '../../fixtures/service-process.ts'
import { freePort } from '../../fixtures/stack.ts'
import type { Fault } from './stub-faults.ts'
import type { StubReport } from './stub-runner.ts'

const ENTRY = fileURLToPath(new URL('./stub-runner.ts', import.meta.url))

/** A stub runner that can be killed and started again at its address. */
export class StubProcess {
  readonly url: string
  readonly #port: number
  #child: ChildProcess | null = null

  private constructor(port: number) {
    this.#port = port
    this.url = `http://127.0.0.1:${port}`
  }

  static async start(): Promise<StubProcess> {
    const stub = new StubProcess(await freePort())
    await stub.ensure()
    return stub
  }

  /** Starts it, unless it runs. */
  async ensure(): Promise<void> {
    if (this.#child !== null) return
    const env = { ...process.env, STUB_PORT: String(this.#port) }
    this.#child = (await startService('stub runner', [ENTRY], env)).process
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (child === null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    this.#child = null
  }

  stop(): void {
    this.#child?.kill('SIGSTOP')
  }

  continue(): void {
    this.#child?.kill('SIGCONT')
  }

  async setFault(fault: Fault): Promise<StubReport> {
    return this.#control({ method: 'PUT', body: fault })
  }

  report(): Promise<StubReport> {
    return this.#control({})
  }

  async #control(init: RequestInit): Promise<StubReport> {
    const response = await fetch(`${this.url}/control`, init)
    return (await response.json()) as StubReport
  }
}
