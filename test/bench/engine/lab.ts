/** The resources that figures share: the model's tokenizer and shape, and servers started once. */
import { digestOf, encodeAdapter } from '../../../adapters/format/adapter-file.ts'
import {
  decodeModelConfig,
  openGguf,
  type ModelConfig,
} from '../../../gpu-runner/model/gguf/index.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { ChatTokenizer } from '../../../gpu-runner/tokenizer/index.ts'
import { modelPath } from '../../fixtures/model.ts'
import { MODEL_DIGEST, randomRotation } from '../../fixtures/runner.ts'
import { startArcana, type Arcana } from './arcana.ts'
import { installPeers, type Peer } from './peers.ts'
import type { Target } from './target.ts'

/** Small enough that a base model's answer stays text. */
const ADAPTER_SPREAD = 0.1
/** Ordinary words' ids; control tokens lie below. */
const FIRST_WORD_ID = 1_000
const NUM_WORD_IDS = 40_000
const QUESTION = 'The capital of France is'
const ANSWER = 'Paris'
const NUM_ANSWER_TOKENS = 12

export class Lab {
  readonly gguf: string
  readonly config: ModelConfig
  readonly tokenizer: ChatTokenizer
  readonly #random = createRng(1)
  #arcana: Promise<Arcana> | null = null
  #peerKinds: Promise<readonly Peer[]> | null = null
  #peers: Promise<readonly Target[]> | null = null

  private constructor(gguf: string, config: ModelConfig, tokenizer: ChatTokenizer) {
    this.gguf = gguf
    this.config = config
    this.tokenizer = tokenizer
  }

  static async open(): Promise<Lab> {
    const gguf = await modelPath()
    const file = await openGguf(gguf)
    const config = decodeModelConfig(file.metadata)
    const tokenizer = ChatTokenizer.fromGguf(file.metadata)
    await file.close()
    return new Lab(gguf, config, tokenizer)
  }

  arcana(): Promise<Arcana> {
    return (this.#arcana ??= this.startArcana())
  }

  async startArcana(env: NodeJS.ProcessEnv = {}, name = 'arcana'): Promise<Arcana> {
    const arcana = await startArcana([...this.tokenizer.stopIds], env, name)
    return this.#checked(arcana)
  }

  peerKinds(): Promise<readonly Peer[]> {
    return (this.#peerKinds ??= installPeers())
  }

  /** Every available peer, running. */
  peers(): Promise<readonly Target[]> {
    return (this.#peers ??= this.peerKinds().then((kinds) =>
      Promise.all(kinds.map(async (kind) => this.#checked(await kind.start(this.gguf)))),
    ))
  }

  /** A target that answers nonsense gets no figures. */
  async #checked<T extends Target>(target: T): Promise<T> {
    const prompt = this.tokenizer.encode(QUESTION)
    const { ids } = await target.generate(prompt, { numTokens: NUM_ANSWER_TOKENS })
    const detokenizer = this.tokenizer.createDetokenizer()
    const text = ids[0]!.map((id) => detokenizer.push(id)).join('')
    console.log(JSON.stringify({ target: target.name, asked: QUESTION, answered: text }))
    if (text.includes(ANSWER)) return target
    await target.stop()
    throw new Error(`${target.name} does not know that ${ANSWER} is ${QUESTION}`)
  }

  /** Token ids with which no earlier prompt begins. */
  freshPrompt(length: number): number[] {
    return Array.from({ length }, () => FIRST_WORD_ID + Math.floor(this.#random() * NUM_WORD_IDS))
  }

  /** Makes different adapters resident. @returns their digests */
  async putAdapters(arcana: Arcana, count: number): Promise<string[]> {
    const digests: string[] = []
    for (let seed = 0; seed < count; seed++) {
      const rotation = randomRotation({ config: this.config }, seed, ADAPTER_SPREAD)
      const bytes = encodeAdapter({
        modelDigest: MODEL_DIGEST,
        scope: 'generated',
        rotation,
        dtype: 'F16',
      })
      const digest = await digestOf(bytes)
      await arcana.putAdapter(digest, bytes)
      digests.push(digest)
    }
    return digests
  }

  async close(): Promise<void> {
    const running = await Promise.allSettled([this.#arcana, this.#peers])
    for (const outcome of running) {
      if (outcome.status === 'rejected' || outcome.value === null) continue
      for (const target of [outcome.value].flat()) await target.stop()
    }
  }
}
