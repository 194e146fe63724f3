import { describe, it } from 'vitest'
import { MinuteWindow } from '../../../src/limits/minute-window.ts'

describe('MinuteWindow', () => {
  it('forgets each amount sixty seconds after its second', ({ expect }) => {
    const window = new MinuteWindow()
    window.charge(3, 1_000_200)
    window.charge(2, 1_010_000)
    expect(window.used(1_059_999)).toBe(5)
    expect(window.used(1_060_000)).toBe(2)
    expect(window.used(1_070_000)).toBe(0)
  })

  it('says when an amount fits, and never of one above the limit', ({ expect }) => {
    const window = new MinuteWindow()
    window.charge(3, 1_000_000)
    window.charge(2, 1_010_000)
    expect(window.waitMs(1, 6, 1_020_000)).toBe(0)
    expect(window.waitMs(1, 5, 1_020_000)).toBe(40_000)
    expect(window.waitMs(4, 5, 1_020_000)).toBe(50_000)
    expect(window.waitMs(6, 5, 1_020_000)).toBeNull()
    expect(window.clearMs(1_020_000)).toBe(50_000)
  })

  it('takes an amount back from when it was charged, and nothing that has left it', ({
    expect,
  }) => {
    const window = new MinuteWindow()
    window.charge(10, 1_000_000)
    window.charge(5, 1_030_000)
    window.refund(4, 1_000_000, 1_040_000)
    expect(window.entries()).toEqual([
      [1000, 6],
      [1030, 5],
    ])
    window.refund(6, 1_000_000, 1_060_000)
    expect(window.used(1_060_000)).toBe(5)
    expect(new MinuteWindow(window.entries()).used(1_060_000)).toBe(5)
  })
})
