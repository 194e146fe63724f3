import { deflateSync, zipSync } from 'fflate'
import { describe, it } from 'vitest'
import { crc32 } from '../../../src/bytes/crc32.ts'
import { unzipWanted } from '../../../src/files/zip.ts'
import { deflatedZeros, writeZip, type ZipEntry } from '../../fixtures/zip-writer.ts'

const MIB = 1024 * 1024
const LIMIT = 16 * MIB
const text = new TextEncoder().encode('what is inside '.repeat(1000))
const wanted = (path: string) => (path.endsWith('.txt') ? LIMIT : null)
const unzip = (archive: Uint8Array) => unzipWanted(archive, wanted, 8)
const file = (changes: Partial<ZipEntry> = {}): ZipEntry => ({
  name: 'a.txt',
  bytes: text,
  ...changes,
})

describe('a zip archive from outside', () => {
  it('gives the files that are wanted, stored or deflated, and leaves the others', async ({
    expect,
  }) => {
    const archive = zipSync({
      'folder/a.txt': text,
      'b.txt': [text, { level: 0 }],
      'empty.txt': new Uint8Array(),
      'other.bin': text,
    })
    const unzipped = await unzip(archive)
    if (!unzipped.ok) throw new Error(unzipped.error.message)
    expect(unzipped.value.map(({ path }) => path)).toEqual(['folder/a.txt', 'b.txt', 'empty.txt'])
    expect(unzipped.value[0]!.bytes).toEqual(text)
    expect(unzipped.value[1]!.bytes).toEqual(text)
    expect(unzipped.value[2]!.bytes).toHaveLength(0)
    expect(await unzip(writeZip([file()]))).toMatchObject({ ok: true })
  })

  it('that lies about itself is refused by what the lie is', async ({ expect }) => {
    const inner = zipSync({ 'a.txt': text })
    const first = file({ name: 'b.txt' })
    const cases: [Uint8Array, RegExp][] = [
      [writeZip([file({ claimedBytes: 1000 })]), /larger than the 1000 bytes it claims/],
      [writeZip([file({ claimedBytes: text.length + 1 })]), /has 15000 bytes, not the 15001/],
      [writeZip([file({ claimedBytes: LIMIT + 1 })]), /larger than 16777216 bytes/],
      [writeZip([file({ crc: 1 })]), /checksum/],
      [writeZip([file({ flags: 1 })]), /encrypted/],
      [writeZip([file({ method: 14 })]), /neither stored nor deflated/],
      [writeZip([file({ method: 0, claimedBytes: 10 })]), /larger than the 10 bytes/],
      [writeZip([file({ packed: new Uint8Array(100).fill(0xff) })]), /not valid deflate/],
      [writeZip([file({ packed: deflateSync(text).slice(0, 40) })]), /not valid|not the 15000/],
      [writeZip([file({ localName: 'c.txt' })]), /two names/],
      [writeZip([first, file({ name: 'b.txt', localAt: 0 })]), /overlaps/],
      [writeZip(Array.from({ length: 9 }, () => file())), /more than 8 entries/],
      [writeZip([file()], true), /zip64/],
      [inner.slice(0, -1), /not a zip archive/],
      [inner.slice(1), /not a zip archive/],
      [new Uint8Array(100), /not a zip archive/],
      [new Uint8Array(), /not a zip archive/],
    ]
    for (const [archive, message] of cases) {
      const unzipped = await unzip(archive)
      expect(unzipped.ok ? 'taken' : unzipped.error.message).toMatch(message)
    }
    // An archive inside is bytes like any other.
    const nested = await unzip(writeZip([file({ bytes: inner })]))
    expect(nested).toMatchObject({ ok: true, value: [{ bytes: inner }] })
  })

  it('is never inflated past its claim, nor for long without a pause', async ({ expect }) => {
    const packed = deflatedZeros(LIMIT)
    const bytes = new Uint8Array(LIMIT)
    let numPauses = 0
    const pause = () => {
      numPauses += 1
      return Promise.resolve()
    }
    const honest = writeZip([file({ bytes, packed: deflateSync(bytes) })])
    const taken = await unzipWanted(honest, wanted, 8, pause)
    expect(taken.ok ? taken.value[0]!.bytes.length : taken.error).toBe(LIMIT)
    // A pause at least every second MiB.
    expect(numPauses).toBeGreaterThanOrEqual(8)
    numPauses = 0
    const bomb = writeZip([file({ bytes: new Uint8Array(), packed, claimedBytes: 1000 })])
    expect((await unzipWanted(bomb, wanted, 8, pause)).ok).toBe(false)
    expect(numPauses).toBeLessThan(2)
  })
})

it('crc32 is the one of zip archives', ({ expect }) => {
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926)
})
