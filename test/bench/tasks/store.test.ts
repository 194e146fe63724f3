import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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

const DIGEST = 'd'.repeat(64)
const open = (place: string) => new Store(place, () => ({ gold: [0, 1], digest: DIGEST }))

let folder: string
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'arcana-store-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true })
})

describe('Store', () => {
  it('has after a restart what was added before, columns of one setting together', ({ expect }) => {
    const first = open(folder)
    first.add(part('base'))
    first.add(part('gradient'))
    first.add({ ...part('base'), seed: 2 })
    first.add({ ...part('base'), set: 'sst2' })
    expect(readdirSync(folder).sort()).toEqual(['ag_news.jsonl', 'sst2.jsonl'])
    const again = open(folder)
    expect(Object.keys(again.get(SETTING)!.columns)).toEqual(['base', 'gradient'])
    expect(again.get(SETTING)!.gold).toEqual([0, 1])
    expect(Object.keys(again.get({ ...SETTING, seed: 2 })!.columns)).toEqual(['base'])
    expect(again.get({ ...SETTING, split: 'test' })).toBeUndefined()
  })

  it('writes no right labels, and has nothing of sets whose rows are not here', ({ expect }) => {
    open(folder).add(part('base'))
    expect(readFileSync(path.join(folder, 'ag_news.jsonl'), 'utf8')).not.toContain('gold')
    expect(new Store(folder, () => null).get(SETTING)).toBeUndefined()
  })

  it('has what was measured elsewhere, and refuses columns of other rows', ({ expect }) => {
    open(folder).add(part('base'))
    const line = { ...SETTING, rows_digest: DIGEST, columns: part('lora').columns, jobs: {} }
    const other = path.join(folder, 'lora.jsonl')
    writeFileSync(other, JSON.stringify(line))
    expect(Object.keys(open(folder).get(SETTING)!.columns)).toEqual(['base', 'lora'])
    for (const wrong of [
      { columns: { lora: [[-0.5, -1]] } },
      { rows_digest: 'e'.repeat(64) },
      { rows_digest: undefined },
    ]) {
      writeFileSync(other, JSON.stringify({ ...line, ...wrong }))
      expect(() => open(folder)).toThrow('other test rows')
    }
  })
})
