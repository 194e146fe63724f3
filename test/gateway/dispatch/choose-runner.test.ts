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

/** The best comes first, without chance. */
const never = () => 1

const urlsOf = (choice: ReturnType<typeof chooseRunner>) =>
  choice.kind === 'ranked' ? choice.runners.map(({ url }) => url) : choice.kind

describe('the choice of a runner', () => {
  const load = (running: number, waiting = 0) => ({ load: { running, waiting, parked: 0 } })

  it('prefers residency, but not to any load', ({ expect }) => {
    const wish = { ...WISH, adapters: ['x', 'y'] }
    const choose = (running: number, waiting = 0) =>
      urlsOf(
        chooseRunner(
          [
            snapshot('idle'),
            snapshot('half', { resident_adapters: ['x'] }),
            snapshot('resident', { resident_adapters: ['x', 'y'], ...load(running, waiting) }),
          ],
          wish,
          never,
        ),
      )
    expect(choose(0)).toEqual(['resident', 'half', 'idle'])
    expect(choose(3)).toEqual(['resident', 'half', 'idle'])
    // 16 rows are taken and 16 requests wait: sending two adapters elsewhere is cheaper.
    expect(choose(16, 16)).toEqual(['half', 'idle', 'resident'])
  })

  it('counts calls begun since the status, and a call that failed', ({ expect }) => {
    const snapshots = [
      { ...snapshot('begun'), numBegun: 3 },
      { ...snapshot('failed'), hasFailed: true },
      snapshot('busy', load(2)),
      snapshot('idle'),
    ]
    expect(urlsOf(chooseRunner(snapshots, WISH, never))).toEqual([
      'idle',
      'busy',
      'begun',
      'failed',
    ])
  })

  it('sends prompts that begin alike to one runner, and others elsewhere', ({ expect }) => {
    const snapshots = ['a', 'b', 'c', 'd'].map((url) => snapshot(url))
    const first = (prefix: string, nodes = snapshots) =>
      urlsOf(chooseRunner(nodes, { ...WISH, prefix }, never))[0]
    const counts = new Map<string | undefined, number>()
    for (let i = 0; i < 400; i++) {
      const url = first(`prompt ${i}`)
      expect(first(`prompt ${i}`)).toBe(url)
      counts.set(url, (counts.get(url) ?? 0) + 1)
      // A runner that leaves moves its own prompts only.
      if (url !== 'd') expect(first(`prompt ${i}`, snapshots.slice(0, 3))).toBe(url)
    }
    for (const { url } of snapshots) expect(counts.get(url)).toBeGreaterThan(70)
  })

  it('chooses by chance among two that cost about the same, and never for a job', ({ expect }) => {
    const snapshots = [snapshot('a', load(4)), snapshot('b', load(4)), snapshot('c', load(16))]
    const wish = { ...WISH, prefix: 'p' }
    const firsts = [0, 0.99].map((draw) => urlsOf(chooseRunner(snapshots, wish, () => draw))[0])
    expect(firsts.sort()).toEqual(['a', 'b'])
    for (const draw of [0, 0.99]) {
      expect(urlsOf(chooseRunner(snapshots, WISH, () => draw))).toEqual(['a', 'b', 'c'])
    }
    const far = [snapshot('a'), snapshot('b', load(16))]
    expect(urlsOf(chooseRunner(far, wish, () => 0))).toEqual(['a', 'b'])
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
    expect(urlsOf(chooseRunner(snapshots, WISH, never))).toBe('none')
    snapshots.push(snapshot('half-open'))
    expect(urlsOf(chooseRunner(snapshots, WISH, never))).toEqual(['half-open'])
  })

  it('distinguishes a wrong model and a wrong build from no runner', ({ expect }) => {
    const one = [snapshot('one')]
    const choose = (wish: object) => urlsOf(chooseRunner(one, { ...WISH, ...wish }, never))
    expect(choose({ modelDigest: MODEL_DIGEST, buildDigest: BUILD_DIGEST })).toEqual(['one'])
    expect(choose({ modelDigest: 'f'.repeat(64) })).toBe('wrong_model')
    expect(choose({ buildDigest: 'f'.repeat(64) })).toBe('wrong_build')
    expect(urlsOf(chooseRunner([], WISH, never))).toBe('none')
  })
})
