import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { LabelTrie } from '../../adapters/objective/label-trie.ts'
import {
  datasetSchema,
  isTargetDataset,
  MAX_TARGET_TOKENS,
  type Dataset,
  type MeasureRequest,
} from '../../src/protocol/runner-scoring.ts'
import type { AdmissionContext } from '../admission/context.ts'
import { encodeMessages } from '../admission/encode-prompt.ts'
import { RunnerFault } from '../runner-fault.ts'

/** The answers to a dataset's prompts: a label for each, or a text of its own for each. */
export type Answers =
  | {
      readonly kind: 'labels'
      /** The right label of each prompt, by index. */
      readonly gold: readonly number[]
      readonly trie: LabelTrie
    }
  | {
      readonly kind: 'targets'
      /** Tokens that should follow each prompt, the end of the turn last. */
      readonly targets: readonly (readonly number[])[]
    }

/** Tokenised examples of a job. */
export type TokenisedDataset = {
  readonly digest: string
  readonly prompts: readonly (readonly number[])[]
  readonly answers: Answers
  /** How many tokens all prompts have in common at their start and at their end, without overlap. */
  readonly sharedEnds: { readonly start: number; readonly end: number }
  /** Most tokens that are fed after a prompt. */
  readonly maxFeedLen: number
}

/** Tokens of all datasets kept. Past it the dataset that was not used for longest goes. */
const MAX_KEPT_TOKENS = 8_000_000

/** Most examples that a refusal names; it always tells how many there are. */
const MAX_NAMED_EXAMPLES = 20

/** The datasets a runner holds. It may drop any of them; the job then sends it again. */
export class DatasetStore {
  readonly #context: Pick<AdmissionContext, 'tokenizer' | 'tries' | 'maxContext'>
  /** In order of last use. */
  readonly #datasets = new Map<string, TokenisedDataset>()

  constructor(context: Pick<AdmissionContext, 'tokenizer' | 'tries' | 'maxContext'>) {
    this.#context = context
  }

  /**
   * @param bytes a `datasetSchema` object as JSON
   * @throws {RunnerFault} a wrong digest, a malformed dataset, an example past the context
   */
  put(digest: string, bytes: Uint8Array): TokenisedDataset {
    const known = this.#datasets.get(digest)
    if (known) return known
    if (createHash('sha256').update(bytes).digest('hex') !== digest) {
      throw new RunnerFault('invalid_request', 'the digest is not the one of these bytes')
    }
    const dataset = parseDataset(bytes)
    const answers = this.#encodeAnswers(dataset)
    const feedLens = dataset.examples.map((_, example) =>
      // The last token of a target is predicted and not fed.
      answers.kind === 'labels' ? answers.trie.maxFeedDepth : answers.targets[example]!.length - 1,
    )
    const prompts = this.#encodePrompts(dataset, (example) => {
      return this.#context.maxContext - 1 - feedLens[example]!
    })
    const tokenised = {
      digest,
      prompts,
      answers,
      sharedEnds: findSharedEnds(prompts),
      maxFeedLen: Math.max(...feedLens),
    }
    this.#datasets.set(digest, tokenised)
    this.#dropOldest()
    return tokenised
  }

  /**
   * Finds the examples that, with their answers, do not fit the context. Other work runs in between.
   * @returns indices, ascending
   * @throws {RunnerFault} naming an example that the chat template refuses
   */
  async measure(request: MeasureRequest): Promise<number[]> {
    const { tokenizer, tries, maxContext } = this.#context
    const labelDepth = 'labels' in request ? tries.get(request.labels).maxFeedDepth : 0
    const tooLong: number[] = []
    for (const [index, example] of request.examples.entries()) {
      // The end of the turn is fed no more than a label's last token.
      const target = 'target' in example ? (example.target ?? '') : ''
      const feedLen = target === '' ? labelDepth : tokenizer.encodeLabel(target).length
      try {
        encodeMessages(tokenizer, example.messages, maxContext - 1 - feedLen)
      } catch (error) {
        const fault = RunnerFault.from(error)
        if (fault.code !== 'context_length_exceeded') throw fault
        tooLong.push(index)
      }
      await setImmediate()
    }
    return tooLong
  }

  /** @throws {RunnerFault} naming the invalid example, or all whose targets are too long */
  #encodeAnswers(dataset: Dataset): Answers {
    const { tokenizer, tries } = this.#context
    if (isTargetDataset(dataset)) {
      const targets = dataset.examples.map(({ target }, example) => {
        if (typeof target === 'string') {
          return [...tokenizer.encodeLabel(target), tokenizer.endOfTurnId]
        }
        if (target.ids.some((id) => id >= tokenizer.vocabSize)) {
          throw new RunnerFault(
            'invalid_request',
            `example ${example + 1} has a token that is not in the vocabulary`,
            { param: `examples.${example}.target.ids` },
          )
        }
        return target.ended ? [...target.ids, tokenizer.endOfTurnId] : target.ids
      })
      const tooLong = targets.flatMap(({ length }, example) =>
        length > MAX_TARGET_TOKENS ? [example] : [],
      )
      if (tooLong.length > 0) {
        throw new RunnerFault(
          'invalid_request',
          `of ${targets.length} examples, ${tooLong.length} have a target of more than ` +
            `${MAX_TARGET_TOKENS} tokens: number ${nameExamples(tooLong)}`,
          { param: `examples.${tooLong[0]!}.target` },
        )
      }
      return { kind: 'targets', targets }
    }
    const gold = dataset.examples.map(({ label }) => label)
    const unknown = gold.findIndex((label) => label >= dataset.labels.length)
    if (unknown >= 0) {
      throw new RunnerFault(
        'invalid_request',
        `example ${unknown + 1} has no label ${gold[unknown]!}`,
        { param: `examples.${unknown}.label` },
      )
    }
    return { kind: 'labels', gold, trie: tries.get(dataset.labels) }
  }

  /** @throws {RunnerFault} naming the invalid example, or all that are past the context */
  #encodePrompts(
    { examples }: Dataset,
    maxTokensOf: (example: number) => number,
  ): (readonly number[])[] {
    const tooLong: number[] = []
    const prompts = examples.map(({ messages }, index) => {
      try {
        return encodeMessages(this.#context.tokenizer, messages, maxTokensOf(index))
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
    throw new RunnerFault(
      'context_length_exceeded',
      `of ${examples.length} examples, ${tooLong.length} are past the context of ` +
        `${maxTokensOf(tooLong[0]!)} tokens: number ${nameExamples(tooLong)}`,
      { param: `examples.${tooLong[0]!}.messages` },
    )
  }

  /** @throws {RunnerFault} dataset_not_resident */
  get(digest: string): TokenisedDataset {
    const dataset = this.#datasets.get(digest)
    if (!dataset) throw new RunnerFault('dataset_not_resident', `push dataset ${digest} first`)
    this.#datasets.delete(digest)
    this.#datasets.set(digest, dataset)
    return dataset
  }

  #dropOldest(): void {
    const sizeOf = ({ prompts, answers }: TokenisedDataset): number =>
      [...prompts, ...(answers.kind === 'targets' ? answers.targets : [])].reduce(
        (sum, tokens) => sum + tokens.length,
        0,
      )
    let total = [...this.#datasets.values()].reduce((sum, dataset) => sum + sizeOf(dataset), 0)
    for (const [digest, dataset] of this.#datasets) {
      if (total <= MAX_KEPT_TOKENS || this.#datasets.size === 1) return
      this.#datasets.delete(digest)
      total -= sizeOf(dataset)
    }
  }
}

function findSharedEnds(prompts: readonly (readonly number[])[]): TokenisedDataset['sharedEnds'] {
  const [first] = prompts
  if (first === undefined) return { start: 0, end: 0 }
  const shortest = Math.min(...prompts.map(({ length }) => length))
  let start = 0
  while (start < shortest && prompts.every((own) => own[start] === first[start])) start++
  let end = 0
  while (
    end < shortest - start &&
    prompts.every((own) => own.at(-1 - end) === first.at(-1 - end))
  ) {
    end++
  }
  return { start, end }
}

function nameExamples(examples: readonly number[]): string {
  const named = examples.slice(0, MAX_NAMED_EXAMPLES).map((index) => index + 1)
  const more = examples.length > named.length ? ` and ${examples.length - named.length} more` : ''
  return `${named.join(', ')}${more}`
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
