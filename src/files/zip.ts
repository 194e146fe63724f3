/*
 * Reads zip archives that may be hostile. It checks everything that the central directory says against
 * the archive, and inflates no more than an entry claims to hold.
 * Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.4
 */
import { Inflate } from 'fflate'
import { fail, ok, type Result } from '../../adapters/result.ts'
import { Breather } from '../bytes/breather.ts'
import { crc32 } from '../bytes/crc32.ts'
import { InflateSlices } from '../bytes/inflate-slices.ts'

export type ZipError = { readonly reason: 'not_zip' | 'refused'; readonly message: string }

const END_SIGNATURE = 0x06054b50
const CENTRAL_SIGNATURE = 0x02014b50
const LOCAL_SIGNATURE = 0x04034b50
const END_BYTES = 22
const CENTRAL_BYTES = 46
const LOCAL_BYTES = 30
const MAX_COMMENT_BYTES = 0xffff
const ENCRYPTED = 1
const STORED = 0
const DEFLATED = 8
/**
 * Inflating this and computing its checksum takes 3 ms, or up to 30 ms before V8 has compiled the
 * code.
 */
const BYTES_BETWEEN_PAUSES = 256 * 1024

type Entry = {
  readonly name: string
  readonly flags: number
  readonly method: number
  readonly crc: number
  readonly packedBytes: number
  readonly sizeBytes: number
  readonly localAt: number
}

/**
 * Inflates the wanted files of an archive. Of the others it only checks the place in the archive.
 * @param limitOf the most bytes that a wanted file may have; null for a file that is not wanted. It
 * is called for all files before the first is inflated.
 * @param maxEntries the most entries of any kind
 * @returns the wanted files in the archive's order
 */
export async function unzipWanted(
  archive: Uint8Array,
  limitOf: (path: string) => number | null,
  maxEntries: number,
  pause?: () => Promise<void>,
): Promise<Result<{ readonly path: string; readonly bytes: Uint8Array }[], ZipError>> {
  const breather = new Breather(BYTES_BETWEEN_PAUSES, pause)
  try {
    const { entries, centralAt } = readDirectory(archive, maxEntries)
    const placed = entries.map((entry) => ({ entry, ...placeOf(archive, entry) }))
    checkPlaces(placed, centralAt)
    const wanted = placed.filter(({ entry }) => {
      const limit = limitOf(entry.name)
      if (limit !== null && entry.sizeBytes > limit) {
        refuse(`${show(entry)} is larger than ${limit} bytes`)
      }
      return limit !== null
    })
    const files: { path: string; bytes: Uint8Array }[] = []
    for (const { entry, dataAt } of wanted) {
      const packed = archive.subarray(dataAt, dataAt + entry.packedBytes)
      files.push({ path: entry.name, bytes: await unpack(entry, packed, breather) })
    }
    return ok(files)
  } catch (error) {
    if (error instanceof ZipFault) return fail({ reason: error.reason, message: error.message })
    throw error
  }
}

class ZipFault extends Error {
  readonly reason: ZipError['reason']

  constructor(reason: ZipError['reason'], message: string) {
    super(message)
    this.reason = reason
  }
}

function refuse(message: string): never {
  throw new ZipFault('refused', message)
}

function notZip(): never {
  throw new ZipFault('not_zip', 'it is not a zip archive')
}

const show = ({ name }: Entry): string => name.slice(-64)
const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function readDirectory(
  archive: Uint8Array,
  maxEntries: number,
): { readonly entries: Entry[]; readonly centralAt: number } {
  const view = viewOf(archive)
  const endAt = findEnd(view)
  const numEntries = view.getUint16(endAt + 10, true)
  const centralBytes = view.getUint32(endAt + 12, true)
  const centralAt = view.getUint32(endAt + 16, true)
  // All bits set refer to zip64 records, which no archive this small needs.
  if (numEntries === 0xffff || centralBytes === 0xffffffff || centralAt === 0xffffffff) {
    refuse('zip64 archives are not supported')
  }
  if (view.getUint16(endAt + 4, true) !== 0 || view.getUint16(endAt + 8, true) !== numEntries) {
    refuse('archives of several disks are not supported')
  }
  if (numEntries > maxEntries) refuse(`it has more than ${maxEntries} entries`)
  if (centralAt + centralBytes !== endAt) notZip()
  const decoder = new TextDecoder()
  const entries: Entry[] = []
  let at = centralAt
  for (let i = 0; i < numEntries; i++) {
    if (at + CENTRAL_BYTES > endAt || view.getUint32(at, true) !== CENTRAL_SIGNATURE) notZip()
    const nameBytes = view.getUint16(at + 28, true)
    const next =
      at + CENTRAL_BYTES + nameBytes + view.getUint16(at + 30, true) + view.getUint16(at + 32, true)
    if (next > endAt) notZip()
    entries.push({
      name: decoder.decode(archive.subarray(at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameBytes)),
      flags: view.getUint16(at + 8, true),
      method: view.getUint16(at + 10, true),
      crc: view.getUint32(at + 16, true),
      packedBytes: view.getUint32(at + 20, true),
      sizeBytes: view.getUint32(at + 24, true),
      localAt: view.getUint32(at + 42, true),
    })
    at = next
  }
  if (at !== endAt) notZip()
  return { entries, centralAt }
}

/** Finds the end record: the mark whose comment ends where the archive ends. */
function findEnd(view: DataView): number {
  const last = view.byteLength - END_BYTES
  for (let at = last; at >= Math.max(0, last - MAX_COMMENT_BYTES); at--) {
    if (view.getUint32(at, true) !== END_SIGNATURE) continue
    if (at + END_BYTES + view.getUint16(at + 20, true) === view.byteLength) return at
  }
  return notZip()
}

/** Reads from an entry's own header where its data stands. */
function placeOf(
  archive: Uint8Array,
  entry: Entry,
): { readonly dataAt: number; readonly end: number } {
  const { localAt } = entry
  const view = viewOf(archive)
  if (localAt + LOCAL_BYTES > archive.length || view.getUint32(localAt, true) !== LOCAL_SIGNATURE) {
    notZip()
  }
  const nameBytes = view.getUint16(localAt + 26, true)
  const dataAt = localAt + LOCAL_BYTES + nameBytes + view.getUint16(localAt + 28, true)
  const name = archive.subarray(localAt + LOCAL_BYTES, localAt + LOCAL_BYTES + nameBytes)
  if (new TextDecoder().decode(name) !== entry.name) refuse(`${show(entry)} has two names`)
  return { dataAt, end: dataAt + entry.packedBytes }
}

/** Refuses entries that share bytes, by which a small archive could inflate to a vast one. */
function checkPlaces(
  placed: readonly { readonly entry: Entry; readonly end: number }[],
  centralAt: number,
): void {
  let freeFrom = 0
  for (const { entry, end } of [...placed].sort((a, b) => a.entry.localAt - b.entry.localAt)) {
    if (entry.localAt < freeFrom || end > centralAt) refuse(`${show(entry)} overlaps another entry`)
    freeFrom = end
  }
}

async function unpack(entry: Entry, packed: Uint8Array, breather: Breather): Promise<Uint8Array> {
  if (entry.flags & ENCRYPTED) refuse(`${show(entry)} is encrypted`)
  const bytes = new Uint8Array(entry.sizeBytes)
  const taken = { sizeBytes: 0, crc: 0 }
  const inflate = inflaterOf(entry, (chunk) => {
    if (taken.sizeBytes + chunk.length > bytes.length) {
      refuse(`${show(entry)} is larger than the ${entry.sizeBytes} bytes it claims`)
    }
    bytes.set(chunk, taken.sizeBytes)
    taken.sizeBytes += chunk.length
    taken.crc = crc32(chunk, taken.crc)
  })
  const slices = new InflateSlices()
  for (let from = 0; from < packed.length;) {
    const slice = packed.subarray(from, from + slices.next())
    from += slice.length
    const before = taken.sizeBytes
    inflate(slice, from === packed.length)
    await breather.worked(slice.length + taken.sizeBytes - before)
  }
  if (taken.sizeBytes !== bytes.length) {
    refuse(`${show(entry)} has ${taken.sizeBytes} bytes, not the ${bytes.length} it claims`)
  }
  if (taken.crc !== entry.crc) refuse(`${show(entry)} has a wrong checksum`)
  return bytes
}

function inflaterOf(
  entry: Entry,
  take: (chunk: Uint8Array) => void,
): (slice: Uint8Array, isLast: boolean) => void {
  if (entry.method === STORED) return take
  if (entry.method !== DEFLATED) refuse(`${show(entry)} is neither stored nor deflated`)
  const inflate = new Inflate(take)
  return (slice, isLast) => {
    try {
      inflate.push(slice, isLast)
    } catch (error) {
      if (error instanceof ZipFault) throw error
      refuse(`${show(entry)} is not valid deflate data`)
    }
  }
}
