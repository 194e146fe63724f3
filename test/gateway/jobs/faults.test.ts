import { describe, it } from 'vitest'
import { RunnerFault, RunnerRefusal } from '../../../src/dispatch/runner-client.ts'
import {
  backoffMs,
  BuildChanged,
  JobFailure,
  judgeFault,
  SearchOutdated,
} from '../../../src/jobs/faults.ts'
import type { RunnerError } from '../../../src/protocol/runner.ts'

const refusal = (code: RunnerError['code'], outcome: RunnerError['outcome']) =>
  new RunnerRefusal({ code, outcome, message: 'why' })

describe('a step that failed', () => {
  it.for([
    [new RunnerFault('unreachable', 'x'), 'retry'],
    [new RunnerFault('died', 'x'), 'retry'],
    [refusal('over_capacity', 'over_capacity'), 'retry'],
    [refusal('internal', 'retryable'), 'retry'],
    [refusal('internal', 'fatal'), 'fail'],
    [refusal('context_length_exceeded', 'unserviceable'), 'fail'],
    [refusal('build_mismatch', 'unserviceable'), 'restart'],
    [new BuildChanged(), 'restart'],
    [new SearchOutdated(), 'restart'],
    [new JobFailure('no_gain', 'x'), 'fail'],
    [new Error('D1_ERROR'), 'retry'],
  ] as const)('with %s leads to %s', ([error, kind], { expect }) => {
    expect(judgeFault(error).kind).toBe(kind)
  })

  it('waits half an hour for a runner, and minutes for what it does not know', ({ expect }) => {
    expect(judgeFault(new RunnerFault('unreachable', 'x'))).toMatchObject({ limitMs: 1_800_000 })
    expect(judgeFault(new TypeError('bug'))).toMatchObject({ limitMs: 120_000 })
  })

  it('backs off to a bound', ({ expect }) => {
    const delays = Array.from({ length: 40 }, (_, i) => backoffMs(i + 1))
    expect(delays.slice(0, 4)).toEqual([250, 500, 1000, 2000])
    expect(delays.at(-1)).toBe(5000)
  })
})
