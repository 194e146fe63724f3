import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'vitest'
import { hashKey, readOrCreateKey } from '../../src/local/api-key.ts'
import { displayPath, readLocalConfig } from '../../src/local/config.ts'
import { lockHome } from '../../src/local/home-lock.ts'

describe('readLocalConfig', () => {
  it('has defaults for everything', ({ expect }) => {
    expect(readLocalConfig({})).toEqual({
      port: 8787,
      home: join(process.cwd(), '.arcana'),
      apiKey: null,
      models: ['smollm2-135m-instruct'],
      runnersPerModel: 1,
      graderHosts: '',
      allowedOrigins: '',
    })
  })

  it('reads the environment', ({ expect }) => {
    const env = {
      PORT: '9000',
      ARCANA_HOME: '/srv/x',
      ARCANA_API_KEY: 'sk-12345',
      ARCANA_MODEL: 'm',
      ARCANA_RUNNERS: '2',
      ARCANA_GRADER_HOSTS: 'grader.example',
      ARCANA_ALLOWED_ORIGINS: 'https://app.example',
    }
    expect(readLocalConfig(env)).toEqual({
      port: 9000,
      home: '/srv/x',
      apiKey: 'sk-12345',
      models: ['m'],
      runnersPerModel: 2,
      graderHosts: 'grader.example',
      allowedOrigins: 'https://app.example',
    })
  })

  it('takes several models', ({ expect }) => {
    const read = (env: NodeJS.ProcessEnv) => readLocalConfig(env).models
    expect(read({ ARCANA_MODELS: ' a, b,a,' })).toEqual(['a', 'b'])
    expect(read({ ARCANA_MODELS: '', ARCANA_MODEL: 'c' })).toEqual(['c'])
    expect(() => read({ ARCANA_MODELS: 'a', ARCANA_MODEL: 'b' })).toThrow(/not both/)
    const file = { ARCANA_MODELS: 'a,b', ARCANA_MODEL_FILE: '/x.gguf' }
    expect(() => read(file)).toThrow(/ARCANA_MODEL_FILE is the file of one model/)
    expect(() => read({ ARCANA_RUNNERS: '0' })).toThrow(/ARCANA_RUNNERS must be an integer in 1/)
  })

  it('names a variable that cannot be used', ({ expect }) => {
    for (const PORT of ['0', '65536', '80.5', 'x', '-1']) {
      expect(() => readLocalConfig({ PORT })).toThrow(/PORT must be an integer/)
    }
    for (const origin of ['app.example', 'https://app.example/path', 'https://a b']) {
      const read = () => readLocalConfig({ ARCANA_ALLOWED_ORIGINS: `*, ${origin}` })
      expect(read).toThrow(/^ARCANA_ALLOWED_ORIGINS: "/)
    }
    expect(() => readLocalConfig({ ARCANA_API_KEY: 'short' })).toThrow(/at least 8/)
    expect(() => readLocalConfig({ ARCANA_API_KEY: 'with space inside' })).toThrow(/ASCII/)
  })
})

describe('displayPath', () => {
  it('is relative below the working folder and absolute elsewhere', ({ expect }) => {
    expect(displayPath(join(process.cwd(), '.arcana', 'key'))).toBe(join('.arcana', 'key'))
    expect(displayPath('/srv/key')).toBe('/srv/key')
  })
})

describe('the key file and the lock', () => {
  let dir = ''
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'arcana-local-'))
  })
  afterEach(() => rm(dir, { recursive: true, force: true }))

  it('makes a key that only its owner reads, and keeps it', async ({ expect }) => {
    const path = join(dir, 'key')
    const key = await readOrCreateKey(path)
    expect(key).toMatch(/^sk-arcana-[\w-]{32}$/)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await readOrCreateKey(path)).toBe(key)
    expect(await readFile(path, 'utf8')).toBe(`${key}\n`)
    expect(await readOrCreateKey(join(dir, 'other'))).not.toBe(key)
  })

  it('narrows a key file that others could read, and refuses an empty one', async ({ expect }) => {
    const path = join(dir, 'key')
    await writeFile(path, 'sk-mine-12345\n', { mode: 0o644 })
    expect(await readOrCreateKey(path)).toBe('sk-mine-12345')
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    await writeFile(path, ' \n')
    await expect(readOrCreateKey(path)).rejects.toThrow(/is empty/)
  })

  it('hashes a key as the gateway does', ({ expect }) => {
    expect(hashKey('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  })

  it('are held by one process at a time and free after release', ({ expect }) => {
    const path = join(dir, 'lock')
    const unlock = lockHome(path)
    expect(unlock).not.toBeNull()
    expect(lockHome(path)).toBeNull()
    unlock!()
    const again = lockHome(path)
    expect(again).not.toBeNull()
    again!()
  })
})
