import { describe, it, vi } from 'vitest'
import { holdJson, sendHeld } from '../../src/http/held-json.ts'

const after = <T>(ms: number, value: T) =>
  new Promise<T>((resolve) => {
    setTimeout(() => {
      resolve(value)
    }, ms)
  })

describe('an answer in one piece', () => {
  it('that is ready soon is sent unchanged, or fails with its own error', async ({ expect }) => {
    const caller = new AbortController()
    const held = await holdJson(after(5, { a: 1 }), caller, 1000)
    expect(held).toEqual({ kind: 'known', value: { a: 1 } })
    await expect(holdJson(Promise.reject(new Error('no')), caller, 1000)).rejects.toThrow('no')
  })

  it('that takes long begins with white space and is still JSON', async ({ expect }) => {
    const held = await holdJson(after(60, { a: 1 }), new AbortController(), 10)
    expect(held.kind).toBe('streamed')
    const text = await sendHeld(held, {}).text()
    expect(text).toMatch(/^ +\{/)
    expect(JSON.parse(text)).toEqual({ a: 1 })
  })

  it('that fails after its beginning breaks the connection', async ({ expect }) => {
    const failing = after(40, null).then(() => {
      throw new Error('died')
    })
    const held = await holdJson(failing, new AbortController(), 10)
    await expect(sendHeld(held, {}).text()).rejects.toThrow('died')
  })

  it('whose reader disconnects ends its work', async ({ expect }) => {
    const caller = new AbortController()
    const held = await holdJson(after(10_000, null), caller, 10)
    await sendHeld(held, {}).body!.cancel()
    await vi.waitFor(() => {
      expect(caller.signal.aborted).toBe(true)
    })
  })
})
