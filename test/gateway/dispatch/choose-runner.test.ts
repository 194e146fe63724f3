import { describe, it } from 'vitest'
import { chooseRunner, type RunnerSnapshot } from '../../../src/dispatch/choose-runner.ts'
import type { RunnerStatus } from '../../../src/protocol/runner.ts'
import { BUILD_DIGEST, MODEL_DIGEST, RunnerDouble } from '../runner-double.ts'

const WISH = { model: 'smollm2-135m-instruct', modelDigest: null, adapters: [] }

function snapshot(
  url: string,
  status: Partial<RunnerStatus> | null = {},
  isAdmitting = true,
): RunnerSnapshot {
  const whole = status === null ? null : { ...new RunnerDouble().status(), ...status }
  return { url, status: whole, isAdmitting }
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
    expect(urlsOf(chooseRunner(snapshots, { ...WISH, adapters: ['x', 'y'] }))).toEqual([
      'resident',
      'half',
      'idle',
      'also-idle',
      'busy',
    ])
  })

  it('excludes runners that are down, or have an open circuit, another protocol or another model', ({
    expect,
  }) => {
    const model = new RunnerDouble().status().model
    const snapshots = [
      snapshot('down', null),
      snapshot('open', {}, false),
      snapshot('old', { protocol_version: 0 }),
      snapshot('other', { model: { ...model, slug: 'llama' } }),
    ]
    expect(urlsOf(chooseRunner(snapshots, WISH))).toBe('none')
    snapshots.push(snapshot('half-open'))
    expect(urlsOf(chooseRunner(snapshots, WISH))).toEqual(['half-open'])
  })

  it('distinguishes a wrong model and a wrong build from no runner', ({ expect }) => {
    const one = [snapshot('one')]
    const choose = (wish: object) => urlsOf(chooseRunner(one, { ...WISH, ...wish }))
    expect(choose({ modelDigest: MODEL_DIGEST, buildDigest: BUILD_DIGEST })).toEqual(['one'])
    expect(choose({ modelDigest: 'f'.repeat(64) })).toBe('wrong_model')
    expect(choose({ buildDigest: 'f'.repeat(64) })).toBe('wrong_build')
    expect(urlsOf(chooseRunner([], WISH))).toBe('none')
  })
})
