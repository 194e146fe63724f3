/**
 * ONNX Runtime through onnxruntime-node's own binding, used where the C API cannot be loaded. It
 * blocks the event loop and copies every output on each run (measured 2–4× slower at decode), so the
 * runner says at its start when it uses this.
 */
import ort from 'onnxruntime-node'
import {
  checkTensor,
  SPIN_DURATION_US,
  type Backend,
  type Binding,
  type Session,
  type SessionOptions,
  type Tensor,
} from './backend.ts'

function toOrt(tensor: Tensor): ort.Tensor {
  const { data, dims } = tensor
  if (data instanceof Float32Array) return new ort.Tensor('float32', data, dims)
  if (data instanceof Int32Array) return new ort.Tensor('int32', data, dims)
  return new ort.Tensor('int64', data, dims)
}

class JsBinding implements Binding {
  readonly #session: ort.InferenceSession
  readonly #feeds: Record<string, ort.Tensor> = {}
  readonly #fetches: Record<string, ort.Tensor> = {}

  constructor(session: ort.InferenceSession) {
    this.#session = session
  }

  bindInput(name: string, tensor: Tensor): void {
    checkTensor(name, tensor)
    this.#feeds[name] = toOrt(tensor)
  }

  bindOutput(name: string, tensor: Tensor): void {
    checkTensor(name, tensor)
    this.#fetches[name] = toOrt(tensor)
  }

  async run(): Promise<void> {
    const results = await this.#session.run(this.#feeds, this.#fetches)
    for (const [name, fetch] of Object.entries(this.#fetches)) {
      const result = results[name]
      if (result === undefined) throw new Error(`ONNX Runtime gave no output ${name}`)
      if (result.data === fetch.data) continue
      // Outputs written in place (KV) are in the shared buffer already; the copy has the same values.
      ;(fetch.data as Float32Array).set(result.data as Float32Array)
    }
  }

  release(): void {
    for (const name of Object.keys(this.#feeds)) Reflect.deleteProperty(this.#feeds, name)
    for (const name of Object.keys(this.#fetches)) Reflect.deleteProperty(this.#fetches, name)
  }
}

export function openJsBinding(): Backend {
  return {
    name: 'js-binding',
    async createSession(modelPath: string, options: SessionOptions): Promise<Session> {
      const session = await ort.InferenceSession.create(modelPath, {
        intraOpNumThreads: options.numThreads,
        graphOptimizationLevel: 'all',
        extra: {
          session: {
            intra_op: {
              allow_spinning: options.allowSpinning ? '1' : '0',
              spin_duration_us: String(SPIN_DURATION_US),
            },
          },
        },
        ...(options.profilePrefix === undefined
          ? {}
          : { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
      })
      return {
        createBinding: () => new JsBinding(session),
        release: () => void session.release(),
      }
    },
  }
}
