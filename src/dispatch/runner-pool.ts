import type { RunnerStatus } from '../protocol/runner.ts'
import { chooseRunner, circuitOpenMs, type RunnerChoice, type RunnerWish } from './choose-runner.ts'
import { RunnerClient } from './runner-client.ts'

/** Load and residency older than this are asked for again. */
const SNAPSHOT_TTL_MS = 500

type Node = {
  readonly client: RunnerClient
  status: RunnerStatus | null
  asOfMs: number
  numFailures: number
  openUntilMs: number
}

/** The runner nodes as this isolate knows them. */
export class RunnerPool {
  readonly #nodes: readonly Node[]

  constructor(urls: readonly string[], secret: string) {
    this.#nodes = urls.map((url) => ({
      client: new RunnerClient(url, secret),
      status: null,
      asOfMs: -Infinity,
      numFailures: 0,
      openUntilMs: 0,
    }))
  }

  async choose(wish: RunnerWish): Promise<RunnerChoice> {
    await Promise.all(this.#nodes.map((node) => this.#refresh(node)))
    const snapshots = this.#nodes.map((node) => ({
      url: node.client.url,
      status: node.status,
      numFailures: node.numFailures,
      openUntilMs: node.openUntilMs,
    }))
    return chooseRunner(snapshots, wish, Date.now())
  }

  clientOf(url: string): RunnerClient {
    return this.#nodeOf(url).client
  }

  reportSuccess(url: string): void {
    const node = this.#nodeOf(url)
    node.numFailures = 0
    node.openUntilMs = 0
  }

  /** The node did not answer or died: it is asked for its status before it is used again. */
  reportFailure(url: string): void {
    const node = this.#nodeOf(url)
    node.numFailures += 1
    node.openUntilMs = Date.now() + circuitOpenMs(node.numFailures)
    node.status = null
    node.asOfMs = -Infinity
  }

  /** The node contradicted what is known of it: its status is asked for before it is used again. */
  forgetStatus(url: string): void {
    this.#nodeOf(url).asOfMs = -Infinity
  }

  #nodeOf(url: string): Node {
    const node = this.#nodes.find((candidate) => candidate.client.url === url)
    if (node === undefined) throw new RangeError(`no runner at ${url}`)
    return node
  }

  async #refresh(node: Node): Promise<void> {
    const nowMs = Date.now()
    if (nowMs - node.asOfMs < SNAPSHOT_TTL_MS || nowMs < node.openUntilMs) return
    try {
      node.status = await node.client.status()
      node.asOfMs = Date.now()
      this.reportSuccess(node.client.url)
    } catch (error) {
      console.warn(
        JSON.stringify({ event: 'runner_down', runner: node.client.url, error: String(error) }),
      )
      this.reportFailure(node.client.url)
    }
  }
}
