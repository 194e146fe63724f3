/** What may go wrong, and what a client may see of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { chat, WHOLE } from './client.ts'
import {
  ALONE,
  both,
  brokenAs,
  brokenOff,
  BUSY,
  disconnect,
  during,
  killRunner,
  killWorkerd,
  MIN_RETRIES,
  NO_RUNNER,
  NOT_READY,
  pauseRunner,
  pauseWorkerd,
  refused,
  restartRunner,
  scenario,
  STATUS_TTL_MS,
  STORM,
  storm,
  takenOver,
  TWO,
  type Scenario,
} from './scenario-kinds.ts'
import { RETRY_SECONDS } from './stub-faults.ts'

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
  takenOver('reset'),
  takenOver('garbage first'),
  takenOver('proof of another adapter'),
  takenOver('500 of a proxy'),
  takenOver('500 of the protocol'),
  takenOver('503 of a proxy'),
  takenOver('429 of the protocol'),
  takenOver('status of another protocol version'),
  takenOver('no answer to anything'),
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
