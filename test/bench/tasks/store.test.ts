import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, it } from 'vitest'
import { Store, type Measured } from './store.ts'

const SETTING = { set: 'ag_news', seed: 1, split: 'validation', num_rows: 2, num_train: 20 }
const part = (column: string, gold: readonly number[] = [0, 1]): Measured => ({
  ...SETTING,
  gold,
  columns: { [column]: gold.map(() => [-0.5, -1]) },
  jobs: {},
})

let folder: string
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'arcana-store-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true })
})

describe('Store', () => {
  it('has after a restart what was added before, columns of one setting together', ({ expect }) => {
    const file = path.join(folder, 'measured.jsonl')
    const first = new Store(file)
    first.add(part('base'))
    first.add(part('gradient'))
    first.add({ ...part('base'), seed: 2 })
    const again = new Store(file)
    expect(Object.keys(again.get(SETTING)!.columns)).toEqual(['base', 'gradient'])
    expect(Object.keys(again.get({ ...SETTING, seed: 2 })!.columns)).toEqual(['base'])
    expect(again.get({ ...SETTING, split: 'test' })).toBeUndefined()
  })

  it('refuses columns of other rows under the same setting', ({ expect }) => {
    const [own, other] = [path.join(folder, 'own.jsonl'), path.join(folder, 'lora.jsonl')]
    new Store(own).add(part('base'))
    new Store(other).add(part('lora', [1, 1]))
    expect(() => new Store(own, [other])).toThrow('other test rows')
  })
})
