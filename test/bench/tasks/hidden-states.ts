/**
 * The base model's last hidden state, for the linear probe. The service does not give it, so the bench
 * runs the graph that the runner runs on prompts (`onnx/serving`, float32 weights) with one more output:
 * the final norm's, from which the logits are made.
 */
import { existsSync } from 'node:fs'
import { readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import onnxProto from 'onnx-proto'
import { IDENTITY_SLOT, SlotTable } from '../../../gpu-runner/adapters/slot-table.ts'
import { encodeMessages } from '../../../gpu-runner/admission/encode-prompt.ts'
import { LabelTries } from '../../../gpu-runner/admission/label-tries.ts'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import {
  decodeModelConfig,
  openGguf,
  type ModelConfig,
} from '../../../gpu-runner/model/gguf/index.ts'
import {
  INPUT_IDS,
  LOGIT_ROWS,
  LOGITS,
  pastKey,
  pastValue,
  presentKey,
  presentValue,
  SEQLENS_K,
  TOTAL_SEQUENCE_LENGTH,
} from '../../../gpu-runner/onnx/serving/decoder.ts'
import { openBuild, type Build } from '../../../gpu-runner/onnx/serving/index.ts'
import {
  ROTATION_POSITIONS,
  rotationCos,
  rotationSin,
} from '../../../gpu-runner/onnx/serving/rotation.ts'
import { openBackend, type Session } from '../../../gpu-runner/ort/index.ts'
import { ChatTokenizer } from '../../../gpu-runner/tokenizer/index.ts'
import type { PromptMessage } from '../../../src/protocol/runner.ts'
import { applyFrame } from '../../../src/tasks/frame.ts'
import { modelPath, TEST_CACHE_DIR } from '../../fixtures/model.ts'
import { MODEL_DIGEST } from '../../fixtures/runner.ts'

const { onnx } = onnxProto
/** The builder's name for the input of the output matrix, [logit_rows, hidden]. */
const LAST_HIDDEN = 'final.wanted'
const GRAPH_FILE = 'last-hidden.onnx'
const NUM_THREADS = 2

export class HiddenStates {
  readonly #session: Session
  readonly #config: ModelConfig
  readonly #tokenizer: ChatTokenizer
  readonly #slots: SlotTable
  readonly #tries: LabelTries
  /** States by token ids, because all seeds and sizes use the same test rows. */
  readonly #states = new Map<string, Float32Array>()

  private constructor(session: Session, config: ModelConfig, tokenizer: ChatTokenizer) {
    this.#session = session
    this.#config = config
    this.#tokenizer = tokenizer
    this.#slots = new SlotTable(config, 1)
    this.#tries = new LabelTries(tokenizer)
  }

  static async open(): Promise<HiddenStates> {
    const ggufPath = await modelPath()
    const file = await openGguf(ggufPath)
    const tokenizer = ChatTokenizer.fromGguf(file.metadata)
    const config = decodeModelConfig(file.metadata)
    await file.close()
    const build = await openBuild(ggufPath, MODEL_DIGEST, path.join(TEST_CACHE_DIR, 'builds'), {
      format: 'float32',
      rotation: true,
      maxContext: config.contextLength,
    })
    const session = await openBackend('c-api').backend.createSession(await withLastHidden(build), {
      numThreads: NUM_THREADS,
      allowSpinning: false,
    })
    return new HiddenStates(session, config, tokenizer)
  }

  /** Token ids of a prompt under a task's instructions, as the service frames and encodes it. */
  encode(instructions: string, messages: readonly PromptMessage[]): number[] {
    const framed = applyFrame({ instructions, position: 'before' }, messages)
    return encodeMessages(this.#tokenizer, framed.messages, this.#config.contextLength - 1)
  }

  get tokenizer(): ChatTokenizer {
    return this.#tokenizer
  }

  /** The trie by which labels are scored. */
  trieOf(words: readonly string[]) {
    return this.#tries.get(words)
  }

  /** {@link read}'s state, [hidden], computed once a prompt. */
  async stateOf(ids: readonly number[]): Promise<Float32Array> {
    const key = ids.join()
    const known = this.#states.get(key)
    if (known !== undefined) return known
    const { state } = await this.read(ids)
    this.#states.set(key, state)
    return state
  }

  /** The base model's final-norm output at the prompt's last position, [hidden], and its logits, [vocab]. */
  async read(
    ids: readonly number[],
  ): Promise<{ readonly state: Float32Array; readonly logits: Float32Array }> {
    const { numHeads, numKvHeads, headDim, numLayers, hidden, vocab } = this.#config
    const kv = new KvTensors(this.#config, 1, ids.length)
    const views = kv.views(0, 1)
    const binding = this.#session.createBinding()
    try {
      const state = new Float32Array(hidden)
      const logits = new Float32Array(vocab)
      const int32 = (value: number) => ({ data: Int32Array.of(value), dims: [1] })
      binding.bindInput(INPUT_IDS, { data: BigInt64Array.from(ids, BigInt), dims: [1, ids.length] })
      binding.bindInput(SEQLENS_K, int32(ids.length - 1))
      binding.bindInput(TOTAL_SEQUENCE_LENGTH, int32(ids.length))
      binding.bindInput(LOGIT_ROWS, { data: BigInt64Array.of(BigInt(ids.length - 1)), dims: [1] })
      binding.bindOutput(LOGITS, { data: logits, dims: [1, vocab] })
      binding.bindOutput(LAST_HIDDEN, { data: state, dims: [1, hidden] })
      const heads = Array.from({ length: ids.length * numHeads }, (_, i) => i % numHeads)
      binding.bindInput(ROTATION_POSITIONS, {
        data: BigInt64Array.from(heads, (head) => BigInt(IDENTITY_SLOT * numHeads + head)),
        dims: [ids.length, numHeads],
      })
      for (let layer = 0; layer < numLayers; layer++) {
        const dims = [1, numKvHeads, kv.capacity, headDim]
        const keys = { data: views[2 * layer]!, dims }
        const values = { data: views[2 * layer + 1]!, dims }
        binding.bindInput(pastKey(layer), keys)
        binding.bindInput(pastValue(layer), values)
        binding.bindOutput(presentKey(layer), keys)
        binding.bindOutput(presentValue(layer), values)
        const table = [this.#slots.numSlots * numHeads, headDim / 2]
        binding.bindInput(rotationCos(layer), { data: this.#slots.cos[layer]!, dims: table })
        binding.bindInput(rotationSin(layer), { data: this.#slots.sin[layer]!, dims: table })
      }
      await binding.run()
      return { state, logits }
    } finally {
      binding.release()
    }
  }

  release(): void {
    this.#session.release()
  }
}

/** Writes the build's graph again beside its weights, with the hidden state among its outputs. */
async function withLastHidden(build: Build): Promise<string> {
  const file = path.join(path.dirname(build.modelPath), GRAPH_FILE)
  if (existsSync(file)) return file
  const model = onnx.ModelProto.decode(await readFile(build.modelPath))
  model.graph!.output!.push({
    name: LAST_HIDDEN,
    type: {
      tensorType: {
        elemType: onnx.TensorProto.DataType.FLOAT,
        shape: { dim: [{ dimParam: LOGIT_ROWS }, { dimValue: build.config.hidden }] },
      },
    },
  })
  const temporary = `${file}.${process.pid}.tmp`
  await writeFile(temporary, onnx.ModelProto.encode(model).finish())
  await rename(temporary, file)
  return file
}
