/** The kinds of scenarios, and what is done to processes in them. */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GatewayProcess } from '../../fixtures/gateway-process.ts'
import { until as untilWithin } from '../../fixtures/stack.ts'
import { chat, WHOLE } from './client.ts'
import type { Fault, GenerateFault, StatusFault } from './stub-faults.ts'
import { GENERATE_FAULTS } from './stub-faults.ts'
import type { StubProcess } from './stub-process.ts'

export type Stage = {
  readonly gateway: GatewayProcess
  readonly stubs: readonly StubProcess[]
}

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
export const STATUS_TTL_MS = 600
const BEGIN_TIMEOUT_MS = 10_000
/** Retries that a gateway may make in 10 s however few requests there are. */
export const MIN_RETRIES = 5
const PAUSE_MS = 1_000
export const STORM = 20
const MAX_FREE_MS = 100
export const NO_RUNNER = '503 no_runner after 1 s'
export const NOT_READY = '503 not_ready after 1 s'
export const BUSY = (seconds: number) => `503 over_capacity after ${seconds} s`

const until = (what: string, condition: () => Promise<boolean>) =>
  untilWithin(what, condition, BEGIN_TIMEOUT_MS)

const forms = [
  { form: 'whole', isStreamed: false },
  { form: 'stream', isStreamed: true },
] as const
type Form = (typeof forms)[number]

export const scenario = (
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

export const TWO = { numRunners: 2, isAlone: true } as const
export const ALONE = { isAlone: true } as const

const underFault =
  (fault: Fault, isStreamed: boolean): Scenario['run'] =>
  async ({ gateway, stubs }) => {
    await stubs[0]!.setFault(fault)
    await sleep(STATUS_TTL_MS)
    return { seen: [await chat(gateway, isStreamed)] }
  }

/** The answer is bad before anything reached the client. */
export const refused = (fault: GenerateFault | StatusFault, allowed: string): Scenario[] =>
  forms.map((form) => scenario(form, fault, allowed, underFault(fault, form.isStreamed)))

/** The answer turns bad after its admission. */
export const brokenOff = (fault: GenerateFault, code: string): Scenario[] =>
  forms.map((form) =>
    scenario(form, fault, brokenAs(form, code), underFault(fault, form.isStreamed)),
  )

export const brokenAs = ({ isStreamed }: Form, code: string) =>
  isStreamed ? `stream error ${code}` : `502 ${code}`

/** Begins a chat and does something once the runner has its generation. */
export const during =
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

export const killRunner = ({ stubs }: Stage) => stubs[0]!.kill()
export const restartRunner = async ({ stubs }: Stage) => {
  await stubs[0]!.kill()
  await stubs[0]!.ensure()
}
export const pauseRunner = async ({ stubs }: Stage) => {
  stubs[0]!.stop()
  await sleep(PAUSE_MS)
  stubs[0]!.continue()
}
const workerdOf = async ({ gateway }: Stage) =>
  Number(await readFile(gateway.workerdPidFile, 'utf8'))
export const killWorkerd = async (stage: Stage) => {
  process.kill(await workerdOf(stage), 'SIGKILL')
}
export const pauseWorkerd = async (stage: Stage) => {
  const pid = await workerdOf(stage)
  process.kill(pid, 'SIGSTOP')
  await sleep(PAUSE_MS)
  process.kill(pid, 'SIGCONT')
}

/** A client leaves; the runner's row must be free soon after. */
export const disconnect =
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
export const takenOver = (fault: Fault): Scenario => ({
  name: `two runners, the first: ${fault} (both)`,
  ...TWO,
  allowed: [WHOLE],
  run: async (stage) => {
    const seen: string[] = []
    const before = await Promise.all(stage.stubs.map((stub) => stub.report()))
    for (const { isStreamed } of forms)
      seen.push(...(await underFault(fault, isStreamed)(stage)).seen)
    // A runner whose status is no good is not asked for a generation.
    const numFailed = fault in GENERATE_FAULTS ? forms.length : 0
    const expected = [numFailed, forms.length]
    for (const [i, stub] of stage.stubs.entries()) {
      const asked = (await stub.report()).numGenerations - before[i]!.numGenerations
      if (asked !== expected[i]) seen.push(`runner ${i} was asked ${asked} times`)
    }
    return { seen }
  },
})

export const storm = (fault: GenerateFault, allowed: readonly string[]): Scenario[] =>
  forms.map((form) =>
    scenario(form, `storm of ${STORM}: ${fault}`, allowed, async ({ gateway, stubs }) => {
      await stubs[0]!.setFault(fault)
      const chats = Array.from({ length: STORM }, () => chat(gateway, form.isStreamed))
      return { seen: await Promise.all(chats) }
    }),
  )

export const both = (make: (form: Form) => Scenario): Scenario[] => forms.map(make)
