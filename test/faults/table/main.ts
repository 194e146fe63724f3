/**
 * `npm run test:faults [-- TEXT]`: what clients see when runners, or the gateway's workerd, fail.
 * The gateway is the real process, the runners are stub processes that misbehave on command. After
 * each scenario a plain chat must be answered whole, no generation may be open on a runner, and usage
 * must be that of the whole answers. Prints a table, and exits with 1 if anything deviates. TEXT
 * chooses the scenarios whose name has it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { startGatewayProcess } from '../../fixtures/gateway-process.ts'
import { chat, readUsage, WHOLE } from './client.ts'
import { SCENARIOS, type Scenario, type Stage } from './scenarios.ts'
import { COMPLETION_TOKENS } from './stub-model.ts'
import { StubProcess } from './stub-process.ts'

const RECOVERY_TIMEOUT_MS = 10_000
const SETTLE_TIMEOUT_MS = 3_000
const POLL_MS = 25
const SECRET = 'a-secret-of-the-fault-table'

type Row = { name: string; expected: string; seen: string; ok: boolean; backMs: number }

const numWhole = new Map<Stage, number>()

async function runScenario(stage: Stage, { name, allowed, run }: Scenario): Promise<Row> {
  const wrong: string[] = []
  const { seen, note } = await run(stage)
  let whole = (numWhole.get(stage) ?? 0) + seen.filter((text) => text === WHOLE).length
  for (const stub of stage.stubs) {
    await stub.ensure()
    await stub.setFault('none')
  }
  const failedAtMs = performance.now()
  let plain = ''
  while (plain !== WHOLE && performance.now() - failedAtMs < RECOVERY_TIMEOUT_MS) {
    plain = await chat(stage.gateway, false)
    if (plain !== WHOLE) await sleep(POLL_MS)
  }
  const backMs = Math.round(performance.now() - failedAtMs)
  if (plain === WHOLE) whole += 1
  else wrong.push(`afterwards: ${plain}`)
  numWhole.set(stage, whole)
  const problem = await waitForBalance(stage, whole)
  if (problem !== null) wrong.push(problem)
  const unexpected = seen.filter((text) => !allowed.includes(text))
  return {
    name,
    expected: allowed.join(' or '),
    seen: [...countEach(seen), ...(note === undefined ? [] : [note]), ...wrong].join('; '),
    ok: unexpected.length === 0 && wrong.length === 0,
    backMs,
  }
}

/** @returns what is off even after a while, null if nothing is */
async function waitForBalance(stage: Stage, whole: number): Promise<string | null> {
  const endMs = performance.now() + SETTLE_TIMEOUT_MS
  for (;;) {
    const problem = await findImbalance(stage, whole)
    if (problem === null || performance.now() > endMs) return problem
    await sleep(POLL_MS)
  }
}

async function findImbalance({ gateway, stubs }: Stage, whole: number): Promise<string | null> {
  for (const stub of stubs) {
    const { numOpen } = await stub.report()
    if (numOpen !== 0) return `${numOpen} generations are still open`
  }
  const { numRequests, numTokens } = await readUsage(gateway)
  if (numRequests === whole && numTokens === whole * COMPLETION_TOKENS) return null
  return `usage is ${numRequests} requests, ${numTokens} tokens after ${whole} whole answers`
}

function countEach(texts: readonly string[]): string[] {
  const counts = Map.groupBy(texts, (text) => text)
  return [...counts].map(([text, { length }]) => (length === 1 ? text : `${length}× ${text}`))
}

function print({ name, expected, seen, ok, backMs }: Row): void {
  console.log(`| ${name} | ${expected} | ${seen} | ${backMs} | ${ok ? 'ok' : '**no**'} |`)
}

async function makeStage(numRunners: 1 | 2): Promise<Stage> {
  const stubs = [first, second].slice(0, numRunners)
  const urls = stubs.map(({ url }) => url)
  return { gateway: await startGatewayProcess(urls, SECRET), stubs }
}

const [wanted = ''] = process.argv.slice(2)
const chosen = SCENARIOS.filter(({ name }) => name.includes(wanted))
const first = await StubProcess.start()
const second = await StubProcess.start()
const rows: Row[] = []
const startedAtMs = performance.now()
try {
  const shared = await makeStage(1)
  console.log('| scenario | expected | seen | back after, ms | ok |')
  console.log('| --- | --- | --- | --- | --- |')
  for (const scenario of chosen) {
    const stage = scenario.isAlone ? await makeStage(scenario.numRunners) : shared
    const row = await runScenario(stage, scenario)
    if (stage !== shared) await stage.gateway.stop()
    rows.push(row)
    print(row)
  }
  // Usage that came late would show here.
  const problem = await findImbalance(shared, numWhole.get(shared) ?? 0)
  if (problem !== null) {
    console.log(`At the end: ${problem}`)
    process.exitCode = 1
  }
  await shared.gateway.stop()
} finally {
  for (const stub of [first, second]) await stub.kill()
}
const numOff = rows.filter(({ ok }) => !ok).length
const seconds = Math.round((performance.now() - startedAtMs) / 1000)
console.log(`\n${rows.length} scenarios in ${seconds} s, ${numOff} deviate.`)
if (numOff > 0 || rows.length === 0) process.exitCode = 1
