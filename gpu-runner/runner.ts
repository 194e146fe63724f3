import { createHash } from 'node:crypto'
import { AdapterStore } from './adapters/adapter-store.ts'
import { SlotTable } from './adapters/slot-table.ts'
import type { AdmissionContext } from './admission/context.ts'
import { Engine } from './engine/engine.ts'
import { Executor } from './engine/executor.ts'
import { LabelTries } from './admission/label-tries.ts'
import { Turns } from './engine/turns.ts'
import { GrammarStore } from './grammar/grammar-store.ts'
import { decodeModelConfig, openGguf, type ModelConfig } from './model/gguf/index.ts'
import { openTrainingGraph, type LossKind } from './onnx/backward/index.ts'
import { openBuild, type WeightFormat } from './onnx/serving/index.ts'
import type { Backend } from './ort/index.ts'
import { DatasetStore } from './scoring/dataset-store.ts'
import { GradientScorer } from './scoring/gradients.ts'
import { LazySession } from './scoring/lazy-session.ts'
import { PromptCache } from './scoring/prompt-cache.ts'
import { Scorer } from './scoring/scorer.ts'
import { ChatTokenizer } from './tokenizer/index.ts'

/**
 * How long compiling a schema's grammar may take. Most take some 10 ms; a string of bounded length takes
 * up to 3 s, since each of its characters is a state that is compared with the whole vocabulary.
 */
const GRAMMAR_COMPILE_MS = 10_000
/** Such a string takes 50 MB. */
const GRAMMAR_HEAP_BYTES = 256 << 20

export type RunnerOptions = {
  readonly ggufPath: string
  readonly modelDigest: string
  /** Folder that holds the built graphs. */
  readonly buildDir: string
  /**
   * Form of the weights for prompts and for decode steps. If they are equal, one graph serves both. For
   * prompts float32 is exact and fastest; block takes a fifth of the memory.
   */
  readonly prefillFormat: WeightFormat
  readonly decodeFormat: WeightFormat
  readonly numThreads: number
  readonly allowSpinning: boolean
  readonly maxContext: number
  readonly maxNumSeqs: number
  readonly maxWaiting: number
  /** Most prompt chunks that are computed between two decode steps. */
  readonly prefillChunksPerStep: number
  /** Deadline of a request that names none. */
  readonly requestTimeoutMs: number
  /** Share of the engine's time that jobs may take while there are live requests. */
  readonly jobShare: number
  readonly maxResidentAdapters: number
  readonly numSlots: number
  /** Memory for the KV of jobs' prompts. */
  readonly scoreCacheBytes: number
  /** Memory for the KV of live prompts, kept for requests that begin alike; 0 keeps none. */
  readonly prefixCacheBytes: number
  /** How long the training graph of gradient jobs stays loaded while unused. */
  readonly gradientIdleMs: number
  /** Compiled grammars kept, each in a thread with some 30 MB. */
  readonly maxGrammars: number
}

/** One base model with everything that serves it. */
export type Runner = {
  readonly config: ModelConfig
  readonly context: AdmissionContext
  readonly executor: Executor
  readonly engine: Engine
  readonly adapters: AdapterStore
  readonly datasets: DatasetStore
  readonly scorer: Scorer
  readonly gradients: GradientScorer
  readonly grammars: GrammarStore
  /** Ends every request, then frees the sessions. */
  release(): Promise<void>
}

/** Opens the model file, its graph (built where the cache lacks it) and the engine over it. */
export async function openRunner(backend: Backend, options: RunnerOptions): Promise<Runner> {
  const file = await openGguf(options.ggufPath)
  const tokenizer = ChatTokenizer.fromGguf(file.metadata)
  const { contextLength } = decodeModelConfig(file.metadata)
  await file.close()
  const buildOf = (format: WeightFormat) =>
    openBuild(options.ggufPath, options.modelDigest, options.buildDir, {
      format,
      rotation: true,
      // The model's whole context, so that one build serves every setting of `maxContext`.
      maxContext: contextLength,
    })
  const open = async (format: WeightFormat) => {
    const build = await buildOf(format)
    return { build, session: await backend.createSession(build.modelPath, options) }
  }
  const decode = await open(options.decodeFormat)
  const prefill =
    options.prefillFormat === options.decodeFormat ? decode : await open(options.prefillFormat)
  const buildDigest = createHash('sha256')
    .update(`${prefill.build.graphDigest} ${decode.build.graphDigest}`)
    .digest('hex')
  const maxContext = Math.min(options.maxContext, contextLength)
  const { config } = decode.build
  const slots = new SlotTable(config, options.numSlots)
  const sessions = { prefill: prefill.session, decode: decode.session }
  const executor = new Executor(sessions, config, slots, { turns: new Turns(options.jobShare) })
  const jobExecutor = executor.forJobs()
  const adapters = new AdapterStore(config, options.modelDigest, options.maxResidentAdapters)
  const now = (): number => performance.now()
  const context: AdmissionContext = {
    tokenizer,
    tries: new LabelTries(tokenizer),
    adapters,
    slots,
    modelDigest: options.modelDigest,
    buildDigest,
    maxContext,
    requestTimeoutMs: options.requestTimeoutMs,
    now,
  }
  const prompts = new PromptCache(jobExecutor, options.scoreCacheBytes)
  const trainingOf = (loss: LossKind) =>
    new LazySession(
      async () =>
        backend.createSession(await openTrainingGraph(await buildOf('float32'), loss), options),
      options.gradientIdleMs,
    )
  const gradients = new GradientScorer(jobExecutor, prompts, {
    choices: trainingOf('choices'),
    vocabulary: trainingOf('vocabulary'),
  })
  const engine = new Engine(executor, {
    maxNumSeqs: options.maxNumSeqs,
    maxWaiting: options.maxWaiting,
    maxContext,
    prefillChunksPerStep: options.prefillChunksPerStep,
    prefixCacheBytes: options.prefixCacheBytes,
    now,
  })
  const grammars = new GrammarStore(tokenizer, {
    maxGrammars: options.maxGrammars,
    compileTimeoutMs: GRAMMAR_COMPILE_MS,
    maxHeapBytes: GRAMMAR_HEAP_BYTES,
    now,
  })
  return {
    config,
    context,
    executor,
    engine,
    adapters,
    datasets: new DatasetStore(context),
    scorer: new Scorer(jobExecutor, slots, prompts),
    gradients,
    grammars,
    async release() {
      await engine.close()
      await grammars.release()
      await gradients.release()
      await executor.release()
    },
  }
}
