/** What may go wrong, and what a client may see of it. */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GatewayProcess } from '../../fixtures/gateway-process.ts'
import { until as untilWithin } from '../../fixtures/stack.ts'
import { chat, WHOLE } from './client.ts'
import type { Fault, GenerateFault, StatusFault } from './stub-faults.ts'
import { RETRY_SECONDS } from './stub-faults.ts'
import type { StubProcess } from './stub-process.ts'

export type Stage = { readonly gateway: GatewayProcess; readonly stubs: readonly StubProcess[] }

export type Scenario = {
  readonly name: string
  readonly numRunners: 1 | 2
  /** Has a gateway of its own, with whole circuits, retry budget and workerd. */
  readonly isAlone: boolean
  /** All that a client may see. */
  readonly allowed: readonly string[]
  /** @returns what each client saw, and what else is to be told */
  readonly run: (stage: Stage) => Promise<{ readonly seen: string[]; readonly note?: string }>
}

/** The gateway keeps a runner's status for half a second. */
const STATUS_TTL_MS = 600
const BEGIN_TIMEOUT_MS = 10_000
/** Retries that a gateway may make in 10 s however few requests there are. */
const MIN_RETRIES = 5
const PAUSE_MS = 1_000
const STORM = 20
const MAX_FREE_MS = 100
const NO_RUNNER = '503 no_runner after 1 s'
const NOT_READY = '503 not_ready after 1 s'
const BUSY = (seconds: number) => `503 over_capacity after ${seconds} s`

const until = (what: string, condition: () => Promise<boolean>) =>
  untilWithin(what, condition, BEGIN_TIMEOUT_MS)

const forms = [
  { form: 'whole', isStreamed: false },
  { form: 'stream', isStreamed: true },
] as const
type Form = (typeof forms)[number]

const scenario = (
  { form }: Form,
  name: string,
  allowed: string | readonly string[],
  run: Scenario['run'],
  options: { readonly numRunners?: 1 | 2; readonly isAlone?: boolean } = {},
): Scenario => ({
  name: `${name} (${form})`,
  numRunners: 1,
  isAlone: false,
  allowed: [allowed].flat(),
  run,
  ...options,
})

const TWO = { numRunners: 2, isAlone: true } as const
const ALONE = { isAlone: true } as const

const underFault =
  (fault: Fault, isStreamed: boolean): Scenario['run'] =>
  async ({ gateway, stubs }) => {
    await stubs[0]!.setFault(fault)
    await sleep(STATUS_TTL_MS)
    return { seen: [await chat(gateway, isStreamed)] }
  }

/** The answer is bad before anything reached the client. */
const refused = (fault: GenerateFault | StatusFault, allowed: string): Scenario[] =>
  forms.map((form) => scenario(form, fault, allowed, underFault(fault, form.isStreamed)))

/** The answer turns bad after its admission. */
const brokenOff = (fault: GenerateFault, code: string): Scenario[] =>
  forms.map((form) =>
    scenario(form, fault, brokenAs(form, code), underFault(fault, form.isStreamed)),
  )

const brokenAs = ({ isStreamed }: Form, code: string) =>
  isStreamed ? `stream error ${code}` : `502 ${code}`

/** Begins a chat and does something once the runner has its generation. */
const during =
  (
    fault: GenerateFault,
    isStreamed: boolean,
    act: (stage: Stage) => Promise<void>,
    numChats = 1,
  ): Scenario['run'] =>
  async (stage) => {
    const [stub] = stage.stubs
    await stub!.setFault(fault)
    const chats = Array.from({ length: numChats }, () => chat(stage.gateway, isStreamed))
    await until(`${numChats} generations`, async () => (await stub!.report()).numOpen >= numChats)
    // Their first events are on the way.
    await sleep(150)
    await act(stage)
    return { seen: await Promise.all(chats) }
  }

const killRunner = ({ stubs }: Stage) => stubs[0]!.kill()
const restartRunner = async ({ stubs }: Stage) => {
  await stubs[0]!.kill()
  await stubs[0]!.ensure()
}
const pauseRunner = async ({ stubs }: Stage) => {
  stubs[0]!.stop()
  await sleep(PAUSE_MS)
  stubs[0]!.continue()
}
const workerdOf = async ({ gateway }: Stage) =>
  Number(await readFile(gateway.workerdPidFile, 'utf8'))
const killWorkerd = async (stage: Stage) => {
  process.kill(await workerdOf(stage), 'SIGKILL')
}
const pauseWorkerd = async (stage: Stage) => {
  const pid = await workerdOf(stage)
  process.kill(pid, 'SIGSTOP')
  await sleep(PAUSE_MS)
  process.kill(pid, 'SIGCONT')
}

/** A client leaves; the runner's row must be free soon after. */
const disconnect =
  (fault: GenerateFault, isStreamed: boolean): Scenario['run'] =>
  async ({ gateway, stubs }) => {
    const [stub] = stubs
    const { numGenerations } = await stub!.setFault(fault)
    const controller = new AbortController()
    const asked = chat(gateway, isStreamed, controller.signal)
    await until(
      'the generation',
      async () => (await stub!.report()).numGenerations > numGenerations,
    )
    await sleep(150)
    const leftAtMs = Date.now()
    controller.abort()
    const seen = [await asked]
    await until('a free row', async () => (await stub!.report()).numOpen === 0)
    const ms = (await stub!.report()).lastClosedAtMs - leftAtMs
    if (ms > MAX_FREE_MS) seen.push(`row free only after ${ms} ms`)
    return { seen, note: `row free after ${ms} ms` }
  }

/** The first of two runners fails before the client has anything; the second answers. */
const takenOver = (fault: Fault): Scenario[] =>
  forms.map((form) =>
    scenario(
      form,
      `two runners, the first: ${fault}`,
      WHOLE,
      async (stage) => {
        const second = stage.stubs[1]!
        const before = (await second.report()).numGenerations
        const { seen } = await underFault(fault, form.isStreamed)(stage)
        const asked = (await second.report()).numGenerations - before
        if (asked !== 1) seen.push(`the second runner was asked ${asked} times`)
        return { seen }
      },
      TWO,
    ),
  )

const storm = (fault: GenerateFault, allowed: readonly string[]): Scenario[] =>
  forms.map((form) =>
    scenario(form, `storm of ${STORM}: ${fault}`, allowed, async ({ gateway, stubs }) => {
      await stubs[0]!.setFault(fault)
      const chats = Array.from({ length: STORM }, () => chat(gateway, form.isStreamed))
      return { seen: await Promise.all(chats) }
    }),
  )

const both = (make: (form: Form) => Scenario): Scenario[] => forms.map(make)

export const SCENARIOS: readonly Scenario[] = [
  ...refused('none', WHOLE),
  ...refused('byte by byte', WHOLE),
  ...refused('paced', WHOLE),
  ...refused('reset', NO_RUNNER),
  ...refused('empty answer', '502 runner_died'),
  ...refused('garbage first', '502 runner_malformed'),
  ...refused('NaN first', '502 runner_not_finite'),
  ...refused('null for a number first', '502 runner_not_finite'),
  ...refused('proof of another adapter', '502 proof_mismatch'),
  ...refused('no admission', '502 runner_malformed'),
  ...brokenOff('reset in mid-answer', 'runner_died'),
  ...brokenOff('garbage in mid-answer', 'runner_malformed'),
  ...brokenOff('truncated line', 'runner_died'),
  ...brokenOff('endless line', 'runner_oversized'),
  ...brokenOff('not UTF-8', 'runner_malformed'),
  ...brokenOff('NaN in the end frame', 'runner_not_finite'),
  ...brokenOff('null in the end frame', 'runner_not_finite'),
  ...brokenOff('1e999 in the end frame', 'runner_not_finite'),
  ...brokenOff('proof that changes model', 'proof_mismatch'),
  ...brokenOff('proof that changes adapter', 'proof_mismatch'),
  ...brokenOff('admitted twice', 'runner_malformed'),
  ...brokenOff('no done', 'runner_died'),
  ...brokenOff('no end', 'runner_malformed'),
  ...brokenOff('too many tokens', 'runner_oversized'),
  ...brokenOff('token after the end', 'runner_malformed'),
  ...brokenOff('usage of another prompt', 'runner_malformed'),
  ...brokenOff('error event in mid-answer', 'runner_error'),
  ...refused('429 of a proxy', BUSY(RETRY_SECONDS)),
  ...refused('503 of a proxy', BUSY(RETRY_SECONDS)),
  ...refused('503 of a proxy without Retry-After', BUSY(1)),
  ...refused('500 of a proxy', '502 runner_error'),
  ...refused('429 of the protocol', BUSY(RETRY_SECONDS)),
  ...refused('503 of the protocol', BUSY(RETRY_SECONDS)),
  ...refused('500 of the protocol', '502 runner_error'),
  ...refused('status is garbage', '502 runner_malformed'),
  ...refused('status has null for a number', '502 runner_not_finite'),
  ...refused('status has NaN', '502 runner_not_finite'),
  ...refused('status of another protocol version', '502 runner_wrong_version'),
  ...refused('status of another model', NO_RUNNER),
  ...refused('status 500', NO_RUNNER),
  ...refused('status breaks off', NO_RUNNER),
  ...refused('no answer to anything', NO_RUNNER),
  ...storm('500 of the protocol', ['502 runner_error', NO_RUNNER]),
  ...storm('503 of a proxy', [BUSY(RETRY_SECONDS)]),
  ...storm('429 of a proxy', [BUSY(RETRY_SECONDS)]),
  ...storm('reset in mid-answer', ['502 runner_died', 'stream error runner_died', NO_RUNNER]),
  ...both((form) =>
    scenario(
      form,
      'kill -9 of the runner before the answer',
      NO_RUNNER,
      during('hold', form.isStreamed, killRunner),
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      'kill -9 of the runner in mid-answer',
      brokenAs(form, 'runner_died'),
      during('hold in mid-answer', form.isStreamed, killRunner),
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      `kill -9 of the runner amid ${STORM} answers`,
      brokenAs(form, 'runner_died'),
      during('hold in mid-answer', form.isStreamed, killRunner, STORM),
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      'restart of the runner in mid-answer',
      brokenAs(form, 'runner_died'),
      during('hold in mid-answer', form.isStreamed, restartRunner),
    ),
  ),
  ...both((form) =>
    scenario(form, 'kill -9 of the runner between requests', NO_RUNNER, async (stage) => {
      await killRunner(stage)
      return { seen: [await chat(stage.gateway, form.isStreamed)] }
    }),
  ),
  ...both((form) =>
    scenario(
      form,
      'SIGSTOP of the runner for a second in mid-answer',
      WHOLE,
      during('paced', form.isStreamed, pauseRunner),
    ),
  ),
  ...both((form) =>
    scenario(form, 'SIGSTOP of the runner between requests', NO_RUNNER, async (stage) => {
      await sleep(STATUS_TTL_MS)
      stage.stubs[0]!.stop()
      const seen = [await chat(stage.gateway, form.isStreamed)]
      stage.stubs[0]!.continue()
      return { seen }
    }),
  ),
  ...both((form) =>
    scenario(
      form,
      'SIGSTOP of workerd for a second in mid-answer',
      WHOLE,
      during('paced', form.isStreamed, pauseWorkerd),
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      'the client leaves before the answer',
      'given up',
      disconnect('hold', form.isStreamed),
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      'the client leaves in mid-answer',
      'given up',
      disconnect('hold in mid-answer', form.isStreamed),
    ),
  ),
  ...takenOver('reset'),
  ...takenOver('garbage first'),
  ...takenOver('proof of another adapter'),
  ...takenOver('500 of a proxy'),
  ...takenOver('500 of the protocol'),
  ...takenOver('503 of a proxy'),
  ...takenOver('429 of the protocol'),
  ...takenOver('status of another protocol version'),
  ...takenOver('no answer to anything'),
  ...both((form) =>
    scenario(
      form,
      'two runners, the first is killed in mid-answer',
      brokenAs(form, 'runner_died'),
      during('hold in mid-answer', form.isStreamed, killRunner),
      TWO,
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      'two runners, kill -9 of the first between requests',
      WHOLE,
      async (stage) => {
        await killRunner(stage)
        return { seen: [await chat(stage.gateway, form.isStreamed)] }
      },
      TWO,
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      `two runners, ${STORM} requests while the first is busy`,
      [WHOLE, BUSY(RETRY_SECONDS)],
      async ({ gateway, stubs }) => {
        await stubs[0]!.setFault('503 of a proxy')
        const seen = []
        for (let i = 0; i < STORM; i++) seen.push(await chat(gateway, form.isStreamed))
        const numRetried = seen.filter((text) => text === WHOLE).length
        if (numRetried !== MIN_RETRIES) seen.push(`${numRetried} retries`)
        return { seen }
      },
      TWO,
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      'kill -9 of workerd before the answer',
      NOT_READY,
      during('hold', form.isStreamed, killWorkerd),
      ALONE,
    ),
  ),
  ...both((form) =>
    scenario(
      form,
      'kill -9 of workerd in mid-answer',
      form.isStreamed ? 'connection broken' : NOT_READY,
      during('hold in mid-answer', form.isStreamed, killWorkerd),
      ALONE,
    ),
  ),
]
