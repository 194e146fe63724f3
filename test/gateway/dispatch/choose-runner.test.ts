import { describe, it } from 'vitest'
import {
  chooseRunner,
  circuitOpenMs,
  type RunnerSnapshot,
} from '../../../src/dispatch/choose-runner.ts'
import type { RunnerStatus } from '../../../src/protocol/runner.ts'
import { BUILD_DIGEST, MODEL_DIGEST, RunnerDouble } from '../runner-double.ts'

const WISH = { model: 'smollm2-135m-instruct', modelDigest: null, adapters: [] }

function snapshot(
  url: string,
  status: Partial<RunnerStatus> | null = {},
  openUntilMs = 0,
): RunnerSnapshot {
  const whole = status === null ? null : { ...new RunnerDouble().status(), ...status }
  return { url, status: whole, numFailures: 0, openUntilMs }
}

const urlsOf = (choice: ReturnType<typeof chooseRunner>) =>
  choice.kind === 'ranked' ? choice.runners.map(({ url }) => url) : choice.kind

describe('the choice of a runner', () => {
  it('prefers residency, then a short queue, then the order of configuration', ({ expect }) => {
    const busy = { running: 9, waiting: 1, parked: 0 }
    const snapshots = [
      snapshot('idle'),
      snapshot('resident', { resident_adapters: ['x', 'y'], load: busy }),
      snapshot('half', { resident_adapters: ['x'] }),
      snapshot('also-idle'),
      snapshot('busy', { load: busy }),
    ]
    expect(urlsOf(chooseRunner(snapshots, { ...WISH, adapters: ['x', 'y'] }, 0))).toEqual([
      'resident',
      'half',
      'idle',
      'also-idle',
      'busy',
    ])
  })

  it('leaves out what is down, open, of another protocol or another model', ({ expect }) => {
    const model = new RunnerDouble().status().model
    const snapshots = [
      snapshot('down', null),
      snapshot('open', {}, 1000),
      snapshot('old', { protocol_version: 0 }),
      snapshot('other', { model: { ...model, slug: 'llama' } }),
    ]
    expect(urlsOf(chooseRunner(snapshots, WISH, 999))).toBe('none')
    expect(urlsOf(chooseRunner(snapshots, WISH, 1000))).toEqual(['open'])
  })

  it('tells a wrong model and a wrong build from no runner at all', ({ expect }) => {
    const one = [snapshot('one')]
    const choose = (wish: object) => urlsOf(chooseRunner(one, { ...WISH, ...wish }, 0))
    expect(choose({ modelDigest: MODEL_DIGEST, buildDigest: BUILD_DIGEST })).toEqual(['one'])
    expect(choose({ modelDigest: 'f'.repeat(64) })).toBe('wrong_model')
    expect(choose({ buildDigest: 'f'.repeat(64) })).toBe('wrong_build')
    expect(urlsOf(chooseRunner([], WISH, 0))).toBe('none')
  })

  it('opens a circuit at the second failure, for longer each time, up to a bound', ({ expect }) => {
    const times = Array.from({ length: 12 }, (_, i) => circuitOpenMs(i))
    expect(times.slice(0, 5)).toEqual([0, 0, 250, 500, 1000])
    expect(Math.max(...times)).toBe(5000)
  })
})
