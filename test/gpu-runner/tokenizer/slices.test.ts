import fc from 'fast-check'
import { beforeAll, describe, it } from 'vitest'
import { openGguf, type GgufMetadata } from '../../../gpu-runner/model/gguf/index.ts'
import { ByteLevelEncoder } from '../../../gpu-runner/tokenizer/byte-level-encoder.ts'
import { Tokenizer, type LibraryTokenizer } from '../../../gpu-runner/tokenizer/library.ts'
import { mergePairs } from '../../../gpu-runner/tokenizer/merge-pairs.ts'
import { PRE_TOKENIZERS } from '../../../gpu-runner/tokenizer/pre-tokenizers.ts'
import type { SectionEncoder } from '../../../gpu-runner/tokenizer/section-encoder.ts'
import { readVocabulary } from '../../../gpu-runner/tokenizer/vocabulary.ts'
import { GEMMA_SLUG, modelPath } from '../../fixtures/model.ts'

/** Stretches long enough that a text of a few has several slices, and words that merge in steps. */
const TEXTS = fc
  .array(
    fc.tuple(
      fc.constantFrom(
        ...[
          'word ',
          ' the',
          "'s ",
          ' ',
          '\n',
          '\r\n',
          '\t ',
          '#',
          '! ',
          '!\n',
          '-\n*',
          '7',
          ' 42',
          'abc',
          'é',
        ],
        ...[
          'e\u0301',
          '名前',
          'ไทย',
          '👩‍👩‍👧',
          '\u00a0',
          '\u0085',
          'ß',
          '²',
          '-',
          "don't",
          '<b>',
          '\ufeff',
        ],
      ),
      fc.integer({ min: 1, max: 700 }),
      fc.string({ unit: 'binary', maxLength: 8 }),
    ),
    { minLength: 1, maxLength: 6 },
  )
  .map((parts) =>
    parts
      .map(([unit, count, text]) => unit.repeat(count) + text)
      .join('')
      .toWellFormed(),
  )

async function readMetadata(slug?: string): Promise<GgufMetadata> {
  const file = await openGguf(await modelPath(slug))
  await file.close()
  return file.metadata
}

function idsOf(encoder: SectionEncoder, text: string): number[] {
  const ids: number[] = []
  Array.from(encoder.encode(text, Infinity, ids, false))
  return ids
}

describe.for(['smollm', 'qwen2'])('text cut into slices for %s', (pre) => {
  let library: LibraryTokenizer
  let encoder: ByteLevelEncoder
  beforeAll(async () => {
    const metadata = await readMetadata()
    const tokens = metadata.strings('tokenizer.ggml.tokens')
    const merges = metadata.strings('tokenizer.ggml.merges')
    library = new Tokenizer(
      {
        version: '1.0',
        added_tokens: [],
        normalizer: null,
        pre_tokenizer: { type: 'Sequence', pretokenizers: PRE_TOKENIZERS[pre]! },
        post_processor: null,
        decoder: { type: 'ByteLevel' },
        model: {
          type: 'BPE',
          unk_token: null,
          vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
          merges,
        },
      },
      {},
    )
    encoder = new ByteLevelEncoder(library, { tokens, merges, userDefinedIds: new Map() })
  })

  it('has the ids that the library gives for the whole text', ({ expect }) => {
    const whole = (text: string): number[] =>
      library
        .pre_tokenizer(text)
        .flatMap((word) =>
          library.model([word]).map((token) => library.model.tokens_to_ids.get(token)!),
        )
    fc.assert(
      fc.property(TEXTS, (text) => {
        expect(idsOf(encoder, text)).toEqual(whole(text))
      }),
      { numRuns: 60 },
    )
  })
})

describe('text cut into slices for SentencePiece', () => {
  it('has the ids of merging the whole text', async ({ expect }) => {
    const metadata = await readMetadata(GEMMA_SLUG)
    const { encoder, tokens } = readVocabulary(metadata)
    const scores = metadata.numbers('tokenizer.ggml.scores')
    const idOf = new Map(tokens.map((token, id) => [token, id]))
    const whole = (text: string): (number | undefined)[] => {
      const marked = text.replaceAll(' ', '\u2581')
      const steps = mergePairs(marked, (start, _, end) => {
        const id = idOf.get(marked.slice(start, end))
        return id === undefined ? undefined : scores[id]
      })
      let step = steps.next()
      while (!step.done) step = steps.next()
      const starts = step.value
      return starts.map((start, i) => idOf.get(marked.slice(start, starts[i + 1])))
    }
    // Nothing that the vocabulary cuts out first, such as several spaces.
    const words = fc
      .array(
        fc.tuple(
          fc.constantFrom('word ', "'s ", 'abc', '. ', 'é', 'don’t ', '#', '名前'),
          fc.integer({ min: 1, max: 900 }),
        ),
        { minLength: 1, maxLength: 6 },
      )
      .map((parts) => parts.map(([unit, count]) => unit.repeat(count)).join(''))
    fc.assert(
      fc.property(words, (text) => {
        expect(idsOf(encoder, text)).toEqual(whole(text))
      }),
      { numRuns: 20 },
    )
  })
})
