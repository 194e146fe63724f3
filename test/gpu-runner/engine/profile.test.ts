import { test } from 'vitest'
import { Profile } from '../../../gpu-runner/engine/profile.ts'

test('a profile counts work by phase, and the rest as idle', async ({ expect }) => {
  const clock = { ms: 1000 }
  const profile = new Profile(() => clock.ms)
  const spend = (ms: number): number => (clock.ms += ms)
  profile.timed('sampling', () => spend(10))
  await profile.timed('decode', async () => {
    await Promise.resolve()
    spend(50)
  })
  const failing = profile.timed('decode', async () => {
    await Promise.resolve()
    spend(20)
    throw new Error('broken')
  })
  await expect(failing).rejects.toThrow('broken')
  spend(20)
  const rows = Object.fromEntries(profile.rows().map(({ phase, ...row }) => [phase, row]))
  expect(rows['sampling']).toEqual({ count: 1, seconds: 0.01, share: 0.1 })
  expect(rows['decode']).toEqual({ count: 2, seconds: 0.07, share: 0.7 })
  expect(rows['prefill']).toEqual({ count: 0, seconds: 0, share: 0 })
  expect(rows['idle']).toMatchObject({ share: 0.2 })
  expect(profile.format()).toMatch(/^decode +0\.07 +70\.0 % +2 +35\.00$/m)
})
