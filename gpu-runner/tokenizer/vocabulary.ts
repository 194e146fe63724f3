import { GgufError, type GgufMetadata } from '../model/gguf/index.ts'
import { bytesOfToken } from './byte-level.ts'
import { Tokenizer, type LibraryTokenizer } from './library.ts'

/** GGUF's token types. Source: llama.cpp include/llama.h, llama_token_type */
const TOKEN_TYPE_NORMAL = 1
const TOKEN_TYPE_CONTROL = 3
/** End a turn in some model's template; each stops an answer wherever the vocabulary has it. */
const END_TOKENS: readonly string[] = ['<|endoftext|>', '<|im_end|>']

/** A model's vocabulary, and the library's tokenizer over it. */
export interface Vocabulary {
  readonly tokenizer: LibraryTokenizer
  readonly tokens: readonly string[]
  /** Control tokens, which no text but the template's own may produce. */
  readonly specialIds: ReadonlyMap<string, number>
  /** A token's bytes by id; absent for control tokens. */
  readonly bytesOfId: readonly (Uint8Array | undefined)[]
  readonly endOfTurnId: number
  readonly stopIds: ReadonlySet<number>
}

/**
 * Builds the tokenizer from a GGUF header: the tokenizer.json that it was once made from.
 * @throws {GgufError} another kind of tokenizer, or an inconsistent vocabulary
 */
export function readVocabulary(metadata: GgufMetadata): Vocabulary {
  const model = metadata.string('tokenizer.ggml.model')
  const pre = metadata.string('tokenizer.ggml.pre')
  if (model !== 'gpt2' || pre !== 'smollm') {
    throw new GgufError(`tokenizer ${model}/${pre} is not served; gpt2/smollm is`)
  }
  const tokens = metadata.strings('tokenizer.ggml.tokens')
  const types = metadata.numbers('tokenizer.ggml.token_type')
  const merges = metadata.strings('tokenizer.ggml.merges')
  if (new Set(tokens).size !== tokens.length || types.length !== tokens.length) {
    throw new GgufError('the vocabulary repeats a token, or has not one type a token')
  }

  const specialIds = new Map<string, number>()
  const bytesOfId: (Uint8Array | undefined)[] = []
  for (const [id, token] of tokens.entries()) {
    if (types[id] === TOKEN_TYPE_CONTROL) {
      specialIds.set(token, id)
    } else if (types[id] === TOKEN_TYPE_NORMAL) {
      const bytes = bytesOfToken(token)
      if (!bytes) throw new GgufError(`token ${id} is not written byte-level`)
      bytesOfId[id] = bytes
    } else {
      throw new GgufError(`token ${id} is of type ${types[id]!}, which is not served`)
    }
  }
  // What no merge makes, plain text cannot become.
  for (const merge of merges) {
    const token = merge.replace(' ', '')
    if (specialIds.has(token)) throw new GgufError(`a merge makes the control token ${token}`)
  }

  const endOfTurnId =
    metadata.optionalNumber('tokenizer.ggml.eot_token_id') ??
    metadata.number('tokenizer.ggml.eos_token_id')
  const endIds = END_TOKENS.map((token) => specialIds.get(token))
  const stopIds = [endOfTurnId, metadata.optionalNumber('tokenizer.ggml.eos_token_id'), ...endIds]
  if (![...specialIds.values()].includes(endOfTurnId)) {
    throw new GgufError(`the end-of-turn token ${endOfTurnId} is not a control token`)
  }
  return {
    tokenizer: createTokenizer(tokens, merges, specialIds),
    tokens,
    specialIds,
    bytesOfId,
    endOfTurnId,
    stopIds: new Set(stopIds.filter((id) => id !== undefined)),
  }
}

function createTokenizer(
  tokens: readonly string[],
  merges: readonly string[],
  specialIds: ReadonlyMap<string, number>,
): LibraryTokenizer {
  return new Tokenizer(
    {
      version: '1.0',
      added_tokens: [...specialIds].map(([content, id]) => ({ id, content, special: true })),
      normalizer: null,
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          // Digits(individual_digits), as a split: the library's own Digits knows ASCII only.
          { type: 'Split', pattern: { Regex: '\\p{N}' }, behavior: 'Isolated', invert: false },
          { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
        ],
      },
      post_processor: null,
      decoder: { type: 'ByteLevel' },
      model: {
        type: 'BPE',
        // No unknown token: a byte that the vocabulary lacks (a few control characters) is dropped,
        // as llama.cpp does. GGUF's unknown token is a control token, and text must not make one.
        unk_token: null,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges,
      },
    },
    {},
  )
}
