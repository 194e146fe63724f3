import { createHash } from 'node:crypto'
import type { LabelTrie } from '../../adapters/objective/label-trie.ts'
import { datasetSchema } from '../../src/protocol/runner.ts'
import { encodePrompt, type AdmissionContext } from '../engine/admission.ts'
import { RunnerFault } from '../runner-fault.ts'

/** Tokenised examples of a job. */
export type TokenisedDataset = {
  readonly digest: string
  readonly prompts: readonly (readonly number[])[]
  /** The right label of each prompt, by index. */
  readonly gold: readonly number[]
  readonly trie: LabelTrie
}

/** Tokens of all datasets kept; past it the one unused for longest goes and is asked for again. */
const MAX_KEPT_TOKENS = 8_000_000

/** The datasets a runner holds; it may lose any of them, and the job then sends it again. */
export class DatasetStore {
  readonly #context: Pick<AdmissionContext, 'tokenizer' | 'tries' | 'maxContext'>
  /** In order of last use. */
  readonly #datasets = new Map<string, TokenisedDataset>()

  constructor(context: Pick<AdmissionContext, 'tokenizer' | 'tries' | 'maxContext'>) {
    this.#context = context
  }

  /**
   * @param bytes a `datasetSchema` object as JSON
   * @throws {RunnerFault} a digest that is not the bytes', a bad dataset, an example past the context
   */
  put(digest: string, bytes: Uint8Array): TokenisedDataset {
    const known = this.#datasets.get(digest)
    if (known) return known
    if (createHash('sha256').update(bytes).digest('hex') !== digest) {
      throw new RunnerFault('invalid_request', 'the digest is not that of the bytes')
    }
    const dataset = parseDataset(bytes)
    const trie = this.#context.tries.get(dataset.labels)
    const maxTokens = this.#context.maxContext - 1 - trie.maxFeedDepth
    const prompts = dataset.examples.map(({ messages, label }, index) => {
      if (label >= dataset.labels.length) {
        throw new RunnerFault('invalid_request', `example ${index} has no label ${label}`, {
          param: `examples.${index}.label`,
        })
      }
      try {
        return encodePrompt(this.#context, messages, maxTokens)
      } catch (error) {
        const fault = RunnerFault.from(error)
        throw new RunnerFault(fault.code, `example ${index}: ${fault.message}`, {
          param: `examples.${index}.messages`,
        })
      }
    })
    const gold = dataset.examples.map(({ label }) => label)
    const tokenised = { digest, prompts, gold, trie }
    this.#datasets.set(digest, tokenised)
    this.#dropOldest()
    return tokenised
  }

  /** @throws {RunnerFault} dataset_not_resident */
  get(digest: string): TokenisedDataset {
    const dataset = this.#datasets.get(digest)
    if (!dataset) throw new RunnerFault('dataset_not_resident', `dataset ${digest} to push first`)
    this.#datasets.delete(digest)
    this.#datasets.set(digest, dataset)
    return dataset
  }

  #dropOldest(): void {
    const sizeOf = ({ prompts }: TokenisedDataset): number =>
      prompts.reduce((sum, prompt) => sum + prompt.length, 0)
    let total = [...this.#datasets.values()].reduce((sum, dataset) => sum + sizeOf(dataset), 0)
    for (const [digest, dataset] of this.#datasets) {
      if (total <= MAX_KEPT_TOKENS || this.#datasets.size === 1) return
      this.#datasets.delete(digest)
      total -= sizeOf(dataset)
    }
  }
}

function parseDataset(bytes: Uint8Array) {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw new RunnerFault('invalid_request', 'the dataset is not JSON')
  }
  const parsed = datasetSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw new RunnerFault('invalid_request', issue.message, { param: issue.path.join('.') })
  }
  return parsed.data
}
