/** A thread that compiles one grammar and keeps its matchers. Masks are written into shared memory. */
import { parentPort, workerData } from 'node:worker_threads'
import type { CompiledGrammar, GrammarMatcher } from '@mlc-ai/web-xgrammar'
import {
  MASK_NUMBER,
  MASK_STATE,
  MASK_WORDS,
  STATE_COMPLETE,
  STATE_FAILED,
  STATE_OPEN,
  type FromGrammarWorker,
  type GrammarWorkerData,
  type ToGrammarWorker,
} from './messages.ts'
import { bytesOfToken } from '../tokenizer/byte-level.ts'
import { Utf8Masks, UTF8_START } from './utf8.ts'
import { loadXGrammar } from './xgrammar.ts'

const WASM_PAGE_BYTES = 65_536

const { vocabulary, stopIds, maxHeapBytes } = workerData as GrammarWorkerData
const port = parentPort!

type Row = { readonly matcher: GrammarMatcher; readonly shared: Int32Array; utf8: number }
const utf8Masks = new Utf8Masks(vocabulary.map((token) => bytesOfToken(token)!))
const rows = new Map<number, Row>()
let compiled: CompiledGrammar | null = null
/** Handles one message at a time, though the library's calls are asynchronous. */
let queue: Promise<void> = Promise.resolve()

boundHeap(maxHeapBytes)
const xgrammar = loadXGrammar()

port.on('message', (message: ToGrammarWorker) => {
  queue = queue.then(() => handle(message))
})

async function handle(message: ToGrammarWorker): Promise<void> {
  if (message.op === 'compile') {
    const startedMs = performance.now()
    try {
      compiled = await compile(message.ebnf)
      reply({ op: 'compiled', compileMs: performance.now() - startedMs })
    } catch (error) {
      reply({ op: 'refused', reason: error instanceof Error ? error.message : String(error) })
    }
    return
  }
  try {
    if (message.op === 'open') await open(message.matcher, new Int32Array(message.shared))
    else if (message.op === 'close') close(message.matcher)
    else await accept(message.matcher, message.token)
  } catch (error) {
    console.error('grammar:', error)
    const row = rows.get(message.matcher)
    if (row) publish(row.shared, STATE_FAILED)
  }
}

async function compile(ebnf: string): Promise<CompiledGrammar> {
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
    [...vocabulary],
    'byte_level',
    false,
    vocabulary.length,
    [...stopIds],
  )
  const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false)
  const result = await compiler.compileGrammar(ebnf)
  compiler.dispose()
  info.dispose()
  return result
}

async function open(id: number, shared: Int32Array): Promise<void> {
  const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(compiled!)
  const row = { matcher, shared, utf8: UTF8_START }
  rows.set(id, row)
  await writeMask(row)
}

async function accept(id: number, token: number): Promise<void> {
  const row = rows.get(id)
  if (!row) return
  if (!row.matcher.acceptToken(token)) throw new Error(`token ${token} is not in the grammar`)
  row.utf8 = utf8Masks.after(row.utf8, token)
  await writeMask(row)
}

function close(id: number): void {
  rows.get(id)?.matcher.dispose()
  rows.delete(id)
}

async function writeMask({ matcher, shared, utf8 }: Row): Promise<void> {
  const mask = await matcher.getNextTokenBitmask()
  const wellFormed = utf8Masks.of(utf8)
  for (let word = 0; word < mask.length; word++) mask[word]! &= wellFormed[word]!
  shared.set(mask, MASK_WORDS)
  const isStop = (word: number, bit: number): boolean => stopIds.includes(word * 32 + bit)
  let canGoOn = false
  let canEnd = false
  for (let word = 0; word < mask.length && !canGoOn; word++) {
    if (mask[word] === 0) continue
    for (let bit = 0; bit < 32 && !canGoOn; bit++) {
      if (((mask[word]! >>> bit) & 1) === 0) continue
      if (isStop(word, bit)) canEnd = true
      else canGoOn = true
    }
  }
  if (!canGoOn && !canEnd) throw new Error('the grammar admits no next token')
  publish(shared, canGoOn ? STATE_OPEN : STATE_COMPLETE)
}

function publish(shared: Int32Array, state: number): void {
  Atomics.store(shared, MASK_STATE, state)
  Atomics.add(shared, MASK_NUMBER, 1)
  Atomics.notify(shared, MASK_NUMBER)
}

function reply(message: FromGrammarWorker): void {
  port.postMessage(message)
}

type WasmMemory = {
  readonly buffer: ArrayBuffer
  grow: (this: WasmMemory, pages: number) => number
}

/** Limits the library's memory: growing past the bound throws, and so its call fails. */
function boundHeap(maxBytes: number): void {
  // Node's types declare no `WebAssembly`.
  const { WebAssembly: wasm } = globalThis as unknown as {
    WebAssembly: { Memory: { prototype: WasmMemory } }
  }
  const { prototype } = wasm.Memory
  const { grow } = prototype
  prototype.grow = function (pages) {
    if (this.buffer.byteLength + pages * WASM_PAGE_BYTES > maxBytes) {
      throw new RangeError(`it takes over ${maxBytes >> 20} MiB`)
    }
    return grow.call(this, pages)
  }
}
