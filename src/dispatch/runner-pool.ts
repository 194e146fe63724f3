import type { RunnerStatus } from '../protocol/runner.ts'
import { chooseRunner, type CallKind, type RunnerChoice, type RunnerWish } from './choose-runner.ts'
import { CircuitBreaker, circuitOpenMs, type Call } from './circuit-breaker.ts'
import { RetryBudget } from './retry-budget.ts'
import { RunnerClient } from './runner-client.ts'
import { isBadAnswer, type RunnerCallFailure } from './runner-failure.ts'

/** A runner's status is asked for again when it is older than this. */
const SNAPSHOT_TTL_MS = 500

type Node = {
  readonly client: RunnerClient
  readonly circuits: Readonly<Record<CallKind, CircuitBreaker>>
  status: RunnerStatus | null
  /** Why its last status could not be used, if the node answered. */
  statusFault: RunnerCallFailure | null
  asOfMs: number
  /** Generations begun so far, and as many of them as had begun when the status was asked for. */
  numBegun: number
  numBegunAsOf: number
  /** How many questions for its status failed in a row, and when it is asked again. */
  numUnanswered: number
  askAgainAtMs: number
}

/** A running call on one node. Its caller says once how it ended. */
export type HeldCall = {
  readonly succeed: () => void
  readonly fail: () => void
  /** The call says nothing about the node. */
  readonly release: () => void
}

/** The runner nodes, with what this isolate knows about them. */
export class RunnerPool {
  readonly #nodes: readonly Node[]
  /** For calls that are repeated on another node. */
  readonly retries = new RetryBudget()

  constructor(urls: readonly string[], secret: string) {
    this.#nodes = urls.map((url) => ({
      client: new RunnerClient(url, secret),
      circuits: {
        generate: new CircuitBreaker(),
        compute: new CircuitBreaker(),
        tokenize: new CircuitBreaker(),
      },
      status: null,
      statusFault: null,
      asOfMs: -Infinity,
      numBegun: 0,
      numBegunAsOf: 0,
      numUnanswered: 0,
      askAgainAtMs: 0,
    }))
  }

  async choose(wish: RunnerWish): Promise<RunnerChoice> {
    await Promise.all(this.#nodes.map((node) => this.#refresh(node)))
    const nowMs = Date.now()
    const snapshots = this.#nodes.map(({ client, status, circuits, numBegun, numBegunAsOf }) => ({
      url: client.url,
      status,
      isAdmitting: circuits[wish.kind].admitsAt(nowMs),
      hasFailed: circuits[wish.kind].hasFailed,
      numBegun: numBegun - numBegunAsOf,
    }))
    return chooseRunner(snapshots, wish, Math.random)
  }

  /** What was wrong with a node's last status; null if each gave a good one or none. */
  statusFault(): RunnerCallFailure | null {
    return this.#nodes.find(({ statusFault }) => statusFault !== null)?.statusFault ?? null
  }

  clientOf(url: string): RunnerClient {
    return this.#nodeOf(url).client
  }

  /** @returns null if the node's circuit lets no call of this kind through */
  begin(url: string, kind: CallKind): HeldCall | null {
    const node = this.#nodeOf(url)
    const circuit = node.circuits[kind]
    const call = circuit.begin(Date.now())
    if (call === null) return null
    if (kind === 'generate') node.numBegun += 1
    let isOver = false
    const once = (end: (call: Call) => void) => () => {
      if (isOver) return
      isOver = true
      end(call)
    }
    return {
      succeed: once((call) => {
        circuit.succeed(call)
      }),
      fail: once((call) => {
        circuit.fail(call, Date.now())
        this.forgetStatus(url)
      }),
      release: once((call) => {
        circuit.release(call)
      }),
    }
  }

  /**
   * Forgets a node's status, because the node contradicted it. It is asked for before the next use.
   */
  forgetStatus(url: string): void {
    const node = this.#nodeOf(url)
    node.status = null
    node.asOfMs = -Infinity
  }

  #nodeOf(url: string): Node {
    const node = this.#nodes.find((candidate) => candidate.client.url === url)
    if (node === undefined) throw new RangeError(`no runner at ${url}`)
    return node
  }

  /**
   * Asks for the node's status if it is old. An answer does not close a circuit: calls may still
   * fail.
   */
  async #refresh(node: Node): Promise<void> {
    const nowMs = Date.now()
    if (nowMs - node.asOfMs < SNAPSHOT_TTL_MS || nowMs < node.askAgainAtMs) return
    try {
      const { numBegun } = node
      node.status = await node.client.status()
      node.statusFault = null
      // Calls that began meanwhile may not be in the answer.
      node.numBegunAsOf = numBegun
      node.asOfMs = Date.now()
      node.numUnanswered = 0
    } catch (error) {
      console.warn(
        JSON.stringify({ event: 'runner_down', runner: node.client.url, error: String(error) }),
      )
      node.status = null
      node.statusFault = isBadAnswer(error) ? error : null
      node.numUnanswered += 1
      node.askAgainAtMs = Date.now() + circuitOpenMs(node.numUnanswered)
    }
  }
}
