import { describe, test } from 'vitest'
import { TenantTurns } from '../../../gpu-runner/scheduler/tenant-turns.ts'

describe('the turns of tenants', () => {
  test('begin anew where nobody else is there', ({ expect }) => {
    const turns = new TenantTurns()
    turns.charge('a', 50)
    turns.enter('b', new Set())
    expect([turns.get('a'), turns.get('b')]).toEqual([0, 0])
  })

  test('save nothing up for a tenant that was away, and keep what it has had', ({ expect }) => {
    const turns = new TenantTurns()
    turns.enter('a', new Set())
    turns.charge('a', 50)
    turns.enter('b', new Set(['a']))
    expect(turns.get('b')).toBe(50)
    turns.charge('b', 100)
    turns.enter('b', new Set(['a']))
    expect(turns.get('b')).toBe(150)
  })

  test('forget idle tenants that are owed nothing', ({ expect }) => {
    const turns = new TenantTurns()
    turns.charge('busy', 10)
    const active = new Set(['busy'])
    for (let i = 0; i < 3000; i++) turns.enter(`t${i}`, active)
    turns.charge('debtor', 99)
    for (let i = 0; i < 3000; i++) turns.enter(`u${i}`, active)
    expect(turns.size).toBeLessThan(1100)
    expect(turns.get('debtor')).toBe(99)
  })
})
