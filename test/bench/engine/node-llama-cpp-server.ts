/**
 * Serves npm's node-llama-cpp over HTTP: POST {prompt: ids, num_tokens} answers one
 * token id a line as each is computed. Arguments: the package's folder, then settings as JSON. Ends
 * when standard input closes.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { PeerSettings } from './peers.ts'

/** The used part of the package, which is not a dependency of this project. */
type Sequence = {
  clearHistory(): Promise<void>
  evaluate(ids: readonly number[], options: object): AsyncIterable<number>
}
type Context = { getSequence(): Sequence }
type Model = { createContext(options: object): Promise<Context> }
type Llama = { loadModel(options: object): Promise<Model> }
type Package = { readonly getLlama: (options: object) => Promise<Llama> }

const [folder, json] = process.argv.slice(2)
const settings = JSON.parse(json!) as PeerSettings
const entry = path.join(folder!, 'dist', 'index.js')
const { getLlama } = (await import(pathToFileURL(entry).href)) as Package

// No build, no download: the binaries that npm brought, or an error.
const llama = await getLlama({
  gpu: false,
  build: 'never',
  logLevel: 'error',
  maxThreads: settings.threads,
})
const model = await llama.loadModel({ modelPath: settings.model, gpuLayers: 0 })
const context = await model.createContext({
  sequences: settings.slots,
  contextSize: settings.context,
  batchSize: settings.ubatch,
  flashAttention: settings.flash,
  threads: { ideal: settings.threads, min: settings.threads },
  experimentalKvCacheKeyType: 'F16',
  experimentalKvCacheValueType: 'F16',
})
const free = Array.from({ length: settings.slots }, () => context.getSequence())

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const body = JSON.parse(Buffer.concat(chunks).toString()) as {
    prompt: number[]
    num_tokens: number
  }
  const sequence = free.pop()
  if (!sequence) throw new Error('every sequence is in use')
  try {
    response.writeHead(200)
    let numLeft = body.num_tokens
    for await (const id of sequence.evaluate(body.prompt, {
      temperature: 0,
      yieldEogToken: true,
    })) {
      response.write(`${id}\n`)
      numLeft -= 1
      if (numLeft === 0) break
    }
    response.end()
  } finally {
    await sequence.clearHistory()
    free.push(sequence)
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => {
    console.error(error)
    response.destroy()
  })
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  console.log(JSON.stringify({ port }))
})
process.stdin.on('end', () => process.exit(0)).resume()
