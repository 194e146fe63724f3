import { describe, it } from 'vitest'
import { Progress } from '../../../gpu-runner/model/progress.ts'

describe('Progress', () => {
  it('redraws one line on a terminal, and not at every byte', ({ expect }) => {
    const written: string[] = []
    let now = 0
    const output = { isTTY: true, write: (text: string) => written.push(text) }
    const progress = new Progress(output, 'fetching', () => now)
    progress.update(1e6, 10e6)
    now = 50
    progress.update(2e6, 10e6)
    now = 120
    progress.update(5e6, 10e6)
    progress.update(10e6, 10e6)
    progress.finish()
    expect(written.map((text) => text.replace(/[^0-9/ MB]/g, '').trim())).toEqual([
      '1/10 MB',
      '5/10 MB',
      '10/10 MB',
      '',
    ])
    expect(written[1]).toContain('█'.repeat(15) + '░'.repeat(15))
    expect(written.at(-1)).toBe('\n')
  })

  it('writes a few plain lines elsewhere', ({ expect }) => {
    const written: string[] = []
    const progress = new Progress({ write: (text: string) => written.push(text) }, 'fetching')
    for (let done = 0; done <= 100; done++) progress.update(done * 1e6, 100e6)
    progress.finish()
    expect(written).toEqual([
      'fetching\n',
      'fetching: 25/100 MB\n',
      'fetching: 50/100 MB\n',
      'fetching: 75/100 MB\n',
      'fetching: 100/100 MB\n',
    ])
  })
})
