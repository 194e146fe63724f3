/**
 * ONNX Runtime through its C API (koffi), on the shared library that onnxruntime-node ships:
 * asynchronous runs over buffers that the caller owns, no copies. OrtApi is an append-only table of
 * function pointers, so an index names a function for every later version.
 * Source: onnxruntime_c_api.h, struct OrtApi, in declaration order.
 */
import { createRequire } from 'node:module'
import path from 'node:path'
import type Koffi from 'koffi'
import {
  checkTensor,
  SPIN_DURATION_US,
  type Backend,
  type Binding,
  type Session,
  type SessionOptions,
  type Tensor,
} from './backend.ts'

/** The newest API version whose functions are used here; the library refuses to hand out newer. */
const ORT_API_VERSION = 23
/** Entries of the table that are read; more than the highest index used. */
const NUM_API_ENTRIES = 160
/** koffi's default of 128 KiB overflows inside ONNX Runtime's kernels. */
const ASYNC_STACK_BYTES = 8 << 20
const LOG_LEVEL_ERROR = 3
const OPTIMISATION_ALL = 99
/** ONNXTensorElementDataType */
const ELEMENT_FLOAT = 1
const ELEMENT_INT32 = 6
const ELEMENT_INT64 = 7

/** A pointer as koffi hands it out: opaque to this code. */
type Pointer = unknown
type NativeFunction = ((...args: unknown[]) => Pointer) & {
  async: (...args: unknown[]) => void
}

const SIGNATURES = {
  getErrorMessage: [2, 'const char *(void *)'],
  createEnv: [3, 'void *(int, const char *, _Out_ void **)'],
  createSession: [7, 'void *(void *, const char *, void *, _Out_ void **)'],
  createSessionOptions: [10, 'void *(_Out_ void **)'],
  enableProfiling: [14, 'void *(void *, const char *)'],
  setGraphOptimizationLevel: [23, 'void *(void *, int)'],
  setIntraOpNumThreads: [24, 'void *(void *, int)'],
  createTensorWithData: [
    49,
    'void *(void *, void *, size_t, int64_t *, size_t, int, _Out_ void **)',
  ],
  createCpuMemoryInfo: [69, 'void *(int, int, _Out_ void **)'],
  releaseStatus: [93, 'void (void *)'],
  releaseSession: [95, 'void (void *)'],
  releaseValue: [96, 'void (void *)'],
  releaseSessionOptions: [100, 'void (void *)'],
  addSessionConfigEntry: [130, 'void *(void *, const char *, const char *)'],
  runWithBinding: [133, 'void *(void *, void *, void *)'],
  createIoBinding: [134, 'void *(void *, _Out_ void **)'],
  releaseIoBinding: [135, 'void (void *)'],
  bindInput: [136, 'void *(void *, const char *, void *)'],
  bindOutput: [137, 'void *(void *, const char *, void *)'],
} as const

type Api = Record<keyof typeof SIGNATURES, NativeFunction>

const require = createRequire(import.meta.url)

/** Path of the shared library inside the installed onnxruntime-node package. */
function libraryPath(): string {
  const root = path.dirname(require.resolve('onnxruntime-node/package.json'))
  const file = {
    linux: 'libonnxruntime.so.1',
    darwin: 'libonnxruntime.dylib',
    win32: 'onnxruntime.dll',
  }
  const name = (file as Record<string, string>)[process.platform]
  if (name === undefined) throw new Error(`onnxruntime-node has no library for ${process.platform}`)
  return path.join(root, 'bin', 'napi-v6', process.platform, process.arch, name)
}

/**
 * Loads koffi when called: a static import would end the runner on a machine for which koffi has no
 * binary.
 */
const loadKoffi = (): typeof Koffi => require('koffi') as typeof Koffi

function loadApi(): Api {
  const koffi = loadKoffi()
  koffi.config({ ...koffi.config(), async_stack_size: ASYNC_STACK_BYTES })
  const library = koffi.load(libraryPath())
  const getBase = library.func('void *OrtGetApiBase()') as () => Pointer
  const [getApiPointer] = koffi.decode(getBase(), koffi.array('void *', 2)) as Pointer[]
  const getApi = koffi.decode(getApiPointer, koffi.proto('void *OrtGetApi(uint32_t)')) as (
    version: number,
  ) => Pointer
  const api = getApi(ORT_API_VERSION)
  if (api === null) throw new Error(`the ONNX Runtime library lacks API version ${ORT_API_VERSION}`)
  const table = koffi.decode(api, koffi.array('void *', NUM_API_ENTRIES)) as Pointer[]
  const functions = Object.entries(SIGNATURES).map(([name, [index, signature]]) => {
    const prototype = koffi.proto(signature.replace('(', `Ort_${name}(`))
    return [name, koffi.decode(table[index], prototype) as NativeFunction]
  })
  return Object.fromEntries(functions) as Api
}

/**
 * glibc's `malloc_trim`; null where there is none. Without it, the allocator keeps a freed session's
 * packed weights for each thread that ever opened a session: 0.6 GB for a training graph.
 */
function loadTrim(): NativeFunction | null {
  if (process.platform !== 'linux') return null
  try {
    return loadKoffi().load('libc.so.6').func('int malloc_trim(size_t)')
  } catch {
    return null
  }
}

function elementType(tensor: Tensor): number {
  if (tensor.data instanceof Float32Array) return ELEMENT_FLOAT
  return tensor.data instanceof Int32Array ? ELEMENT_INT32 : ELEMENT_INT64
}

class CApiBinding implements Binding {
  readonly #api: CApi
  readonly #session: Pointer
  readonly #handle: Pointer
  /** OrtValues by input or output name, and their buffers, which are kept alive here. */
  readonly #values = new Map<string, { value: Pointer; tensor: Tensor }>()
  #numRunning = 0

  constructor(api: CApi, session: Pointer) {
    this.#api = api
    this.#session = session
    this.#handle = api.create('createIoBinding', session)
  }

  bindInput(name: string, tensor: Tensor): void {
    this.#bind('bindInput', name, tensor)
  }

  bindOutput(name: string, tensor: Tensor): void {
    this.#bind('bindOutput', name, tensor)
  }

  #bind(kind: 'bindInput' | 'bindOutput', name: string, tensor: Tensor): void {
    checkTensor(name, tensor)
    const value = this.#api.createTensor(tensor)
    this.#api.call(kind, this.#handle, name, value)
    const key = `${kind}:${name}`
    const previous = this.#values.get(key)
    this.#values.set(key, { value, tensor })
    if (previous) this.#api.functions.releaseValue(previous.value)
  }

  async run(): Promise<void> {
    this.#numRunning += 1
    try {
      await this.#api.callAsync('runWithBinding', this.#session, null, this.#handle)
    } finally {
      // Touching `this` after the call keeps the bound buffers alive while native code uses them.
      this.#numRunning -= 1
    }
  }

  release(): void {
    if (this.#numRunning > 0) throw new Error('a binding was released during its run')
    this.#api.functions.releaseIoBinding(this.#handle)
    for (const { value } of this.#values.values()) this.#api.functions.releaseValue(value)
    this.#values.clear()
  }
}

/** Calls functions of the API, and throws an Error for an OrtStatus. */
class CApi implements Backend {
  readonly name = 'c-api'
  readonly functions: Api
  readonly #env: Pointer
  readonly #memoryInfo: Pointer
  readonly #trim: NativeFunction | null

  constructor() {
    this.functions = loadApi()
    this.#trim = loadTrim()
    this.#env = this.create('createEnv', LOG_LEVEL_ERROR, 'arcana')
    this.#memoryInfo = this.create('createCpuMemoryInfo', 0, 0)
  }

  call(name: keyof Api, ...args: unknown[]): void {
    this.#check(name, this.functions[name](...args))
  }

  /** Calls a function whose last parameter receives a new handle. */
  create(name: keyof Api, ...args: unknown[]): Pointer {
    const out: [Pointer] = [null]
    this.call(name, ...args, out)
    return out[0]
  }

  callAsync(name: keyof Api, ...args: unknown[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.functions[name].async(...args, (error: Error | null, status: Pointer) => {
        try {
          if (error) throw error
          this.#check(name, status)
          resolve()
        } catch (failure) {
          reject(failure instanceof Error ? failure : new Error(String(failure)))
        }
      })
    })
  }

  createTensor(tensor: Tensor): Pointer {
    return this.create(
      'createTensorWithData',
      this.#memoryInfo,
      tensor.data,
      tensor.data.byteLength,
      BigInt64Array.from(tensor.dims.map(BigInt)),
      tensor.dims.length,
      elementType(tensor),
    )
  }

  createSession(modelPath: string, options: SessionOptions): Promise<Session> {
    const handle = this.create('createSessionOptions')
    this.call('setGraphOptimizationLevel', handle, OPTIMISATION_ALL)
    this.call('setIntraOpNumThreads', handle, options.numThreads)
    const spinning = options.allowSpinning ? '1' : '0'
    this.call('addSessionConfigEntry', handle, 'session.intra_op.allow_spinning', spinning)
    const duration = String(SPIN_DURATION_US)
    this.call('addSessionConfigEntry', handle, 'session.intra_op.spin_duration_us', duration)
    if (options.profilePrefix !== undefined) {
      this.call('enableProfiling', handle, options.profilePrefix)
    }
    const out: [Pointer] = [null]
    return this.callAsync('createSession', this.#env, modelPath, handle, out).then(() => {
      this.functions.releaseSessionOptions(handle)
      const session = out[0]
      return {
        createBinding: () => new CApiBinding(this, session),
        release: () => {
          this.functions.releaseSession(session)
          // Asynchronously, since it takes some 0.1 s.
          this.#trim?.async(0, () => undefined)
        },
      }
    })
  }

  #check(name: string, status: Pointer): void {
    if (status === null || status === undefined) return
    const message = this.functions.getErrorMessage(status) as string
    this.functions.releaseStatus(status)
    throw new Error(`ONNX Runtime ${name}: ${message}`)
  }
}

let opened: CApi | null = null

/**
 * This process's only instance, since the library and koffi's settings are process-wide.
 * @throws {Error} the shared library is missing or too old
 */
export function openCApi(): Backend {
  opened ??= new CApi()
  return opened
}
