import { describe, it } from 'vitest'
import { CircuitBreaker, circuitOpenMs } from '../../../src/dispatch/circuit-breaker.ts'

describe('a circuit', () => {
  it('stays open for longer after each failure, up to a bound', ({ expect }) => {
    const times = Array.from({ length: 12 }, (_, i) => circuitOpenMs(i))
    expect(times.slice(0, 5)).toEqual([0, 0, 250, 500, 1000])
    expect(Math.max(...times)).toBe(5000)
  })

  it('is closed, open, half-open and closed again', ({ expect }) => {
    const circuit = new CircuitBreaker()
    circuit.fail(circuit.begin(0)!, 10)
    expect(circuit.stateAt(10)).toBe('closed')
    circuit.fail(circuit.begin(20)!, 30)
    expect(circuit.stateAt(279)).toBe('open')
    expect(circuit.begin(279)).toBeNull()
    expect(circuit.stateAt(280)).toBe('half_open')
    const probe = circuit.begin(280)!
    expect(probe.isProbe).toBe(true)
    // One at a time.
    expect(circuit.begin(281)).toBeNull()
    circuit.fail(probe, 290)
    expect(circuit.stateAt(789)).toBe('open')
    circuit.succeed(circuit.begin(790)!)
    expect(circuit.stateAt(791)).toBe('closed')
    // It is closed as at the start: two failures open it again.
    circuit.fail(circuit.begin(800)!, 801)
    expect(circuit.stateAt(801)).toBe('closed')
  })

  it('counts calls that fail together once', ({ expect }) => {
    const circuit = new CircuitBreaker()
    const calls = Array.from({ length: 10 }, () => circuit.begin(0)!)
    for (const call of calls) circuit.fail(call, 100)
    expect(circuit.stateAt(349)).toBe('open')
    expect(circuit.stateAt(350)).toBe('half_open')
  })

  it('forgets failures at a success, but not at one that began before it opened', ({ expect }) => {
    const circuit = new CircuitBreaker()
    const long = circuit.begin(0)!
    circuit.fail(circuit.begin(1)!, 2)
    circuit.succeed(circuit.begin(3)!)
    circuit.fail(circuit.begin(4)!, 5)
    expect(circuit.stateAt(6)).toBe('closed')
    circuit.fail(circuit.begin(7)!, 8)
    circuit.succeed(long)
    expect(circuit.stateAt(9)).toBe('open')
  })

  it('lets another probe through if the first gave no result, or was lost', ({ expect }) => {
    const circuit = new CircuitBreaker()
    circuit.fail(circuit.begin(0)!, 1)
    circuit.fail(circuit.begin(2)!, 3)
    const probe = circuit.begin(300)!
    circuit.release(probe)
    expect(circuit.begin(301)).not.toBeNull()
    expect(circuit.begin(302)).toBeNull()
    expect(circuit.begin(30_301)).not.toBeNull()
  })
})
