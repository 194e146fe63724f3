import { createHash } from 'node:crypto'
import type { LabelTrie } from '../../adapters/objective/label-trie.ts'
import { datasetSchema, type Dataset } from '../../src/protocol/runner.ts'
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

/** Examples that a refusal names; their number is told in any case. */
const MAX_NAMED_EXAMPLES = 20

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
    const prompts = this.#encode(dataset, maxTokens)
    const gold = dataset.examples.map(({ label }) => label)
    const tokenised = { digest, prompts, gold, trie }
    this.#datasets.set(digest, tokenised)
    this.#dropOldest()
    return tokenised
  }

  /** @throws {RunnerFault} naming the example at fault, or all that are past the context */
  #encode(dataset: Dataset, maxTokens: number): (readonly number[])[] {
    const tooLong: number[] = []
    const prompts = dataset.examples.map(({ messages, label }, index) => {
      if (label >= dataset.labels.length) {
        throw new RunnerFault('invalid_request', `example ${index + 1} has no label ${label}`, {
          param: `examples.${index}.label`,
        })
      }
      try {
        return encodePrompt(this.#context, messages, maxTokens)
      } catch (error) {
        const fault = RunnerFault.from(error)
        if (fault.code === 'context_length_exceeded') {
          tooLong.push(index)
          return []
        }
        throw new RunnerFault(fault.code, `example ${index + 1}: ${fault.message}`, {
          param: `examples.${index}.messages`,
        })
      }
    })
    if (tooLong.length === 0) return prompts
    const named = tooLong.slice(0, MAX_NAMED_EXAMPLES).map((index) => index + 1)
    const more = tooLong.length > named.length ? ` and ${tooLong.length - named.length} more` : ''
    throw new RunnerFault(
      'context_length_exceeded',
      `of ${dataset.examples.length} examples, ${tooLong.length} are past the context of ` +
        `${maxTokens} tokens: number ${named.join(', ')}${more}`,
      { param: `examples.${tooLong[0]!}.messages` },
    )
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
