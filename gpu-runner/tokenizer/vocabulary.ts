import { GgufError, type GgufMetadata } from '../model/gguf/index.ts'
import { bytesOfToken } from './byte-level.ts'
import { ByteLevelEncoder } from './byte-level-encoder.ts'
import { PRE_TOKENIZERS } from './pre-tokenizers.ts'
import { Tokenizer, type LibraryTokenizer } from './library.ts'
import type { SectionEncoder } from './section-encoder.ts'
import { SentencePieceEncoder, SPACE_MARK } from './sentence-piece-encoder.ts'

/** GGUF's token types. Source: llama.cpp include/llama.h, llama_token_type */
const TOKEN_TYPE_NORMAL = 1
const TOKEN_TYPE_UNKNOWN = 2
const TOKEN_TYPE_CONTROL = 3
const TOKEN_TYPE_USER_DEFINED = 4
const TOKEN_TYPE_UNUSED = 5
const TOKEN_TYPE_BYTE = 6
/** Tokens that end a turn in some model's template. Those that a vocabulary has stop an answer. */
const TURN_END_TOKENS: readonly string[] = [
  '<|im_end|>',
  '<end_of_turn>',
  '<|eot_id|>',
  // Llama 3.1's end of a turn that calls a function.
  '<|eom_id|>',
]
const TEXT_END_TOKENS: readonly string[] = ['<|endoftext|>', '<eos>', '</s>', '<|end_of_text|>']
const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/

/** A model's vocabulary and the encoder of text into it. */
export interface Vocabulary {
  readonly encoder: SectionEncoder
  readonly tokens: readonly string[]
  /** Control tokens, which only the template's own text may produce. */
  readonly specialIds: ReadonlyMap<string, number>
  /** Tokens' bytes by id; control tokens have none. */
  readonly bytesOfId: readonly (Uint8Array | undefined)[]
  readonly endOfTurnId: number
  readonly stopIds: ReadonlySet<number>
  /** The token that begins every prompt; null where there is none. */
  readonly beginId: number | null
}

type Tokens = Pick<Vocabulary, 'encoder' | 'tokens' | 'specialIds' | 'bytesOfId'>

/**
 * Reads the vocabulary from a GGUF header.
 * @throws {GgufError} an unsupported kind of tokenizer, or an inconsistent vocabulary
 */
export function readVocabulary(metadata: GgufMetadata): Vocabulary {
  const model = metadata.string('tokenizer.ggml.model')
  if (model !== 'gpt2' && model !== 'llama') {
    throw new GgufError(`tokenizer ${model} is not served; gpt2 and llama are`)
  }
  const tokens = model === 'gpt2' ? readByteLevel(metadata) : readSentencePiece(metadata)
  const { specialIds } = tokens
  const endOfTextId = metadata.optionalNumber('tokenizer.ggml.eos_token_id')
  const template = metadata.optionalString('tokenizer.chat_template') ?? ''
  const turnEnd = TURN_END_TOKENS.find((token) => template.includes(token) && specialIds.has(token))
  const endOfTurnId =
    metadata.optionalNumber('tokenizer.ggml.eot_token_id') ??
    (turnEnd === undefined ? undefined : specialIds.get(turnEnd)) ??
    metadata.number('tokenizer.ggml.eos_token_id')
  if (![...specialIds.values()].includes(endOfTurnId)) {
    throw new GgufError(`the end-of-turn token ${endOfTurnId} is not a control token`)
  }
  const endIds = [...TURN_END_TOKENS, ...TEXT_END_TOKENS].map((token) => specialIds.get(token))
  // llama.cpp's default where the file leaves it out.
  const addsBegin = metadata.optionalBoolean('tokenizer.ggml.add_bos_token') ?? model === 'llama'
  return {
    ...tokens,
    endOfTurnId,
    stopIds: new Set([endOfTurnId, endOfTextId, ...endIds].filter((id) => id !== undefined)),
    beginId: addsBegin ? metadata.number('tokenizer.ggml.bos_token_id') : null,
  }
}

function readTokens(metadata: GgufMetadata) {
  const tokens = metadata.strings('tokenizer.ggml.tokens')
  const types = metadata.numbers('tokenizer.ggml.token_type')
  if (new Set(tokens).size !== tokens.length || types.length !== tokens.length) {
    throw new GgufError(
      'the vocabulary has a token twice, or does not have one type for each token',
    )
  }
  if (tokens.includes('')) throw new GgufError(`token ${tokens.indexOf('')} is empty`)
  return { tokens, types }
}

function readByteLevel(metadata: GgufMetadata): Tokens {
  const pre = metadata.string('tokenizer.ggml.pre')
  const preTokenizer = PRE_TOKENIZERS[pre]
  if (!preTokenizer) {
    const known = Object.keys(PRE_TOKENIZERS).join(', gpt2/')
    throw new GgufError(`tokenizer gpt2/${pre} is not served; gpt2/${known} and llama are`)
  }
  const { tokens, types } = readTokens(metadata)
  const merges = metadata.strings('tokenizer.ggml.merges')
  const specialIds = new Map<string, number>()
  const userDefinedIds = new Map<string, number>()
  const bytesOfId: (Uint8Array | undefined)[] = []
  for (const [id, token] of tokens.entries()) {
    if (types[id] === TOKEN_TYPE_CONTROL) {
      specialIds.set(token, id)
    } else if (types[id] === TOKEN_TYPE_NORMAL) {
      const bytes = bytesOfToken(token)
      if (!bytes) throw new GgufError(`token ${id} is not written in byte-level characters`)
      bytesOfId[id] = bytes
    } else if (types[id] === TOKEN_TYPE_USER_DEFINED) {
      userDefinedIds.set(token, id)
      bytesOfId[id] = new TextEncoder().encode(token)
    } else if (types[id] !== TOKEN_TYPE_UNUSED) {
      throw new GgufError(`token ${id} is of type ${types[id]!}, which is not served`)
    }
  }
  // Plain text can only become tokens that merges make.
  for (const merge of merges) {
    const token = merge.replace(' ', '')
    if (specialIds.has(token)) throw new GgufError(`a merge makes the control token ${token}`)
  }
  const tokenizer = createTokenizer(tokens, merges, specialIds, preTokenizer)
  const encoder = new ByteLevelEncoder(tokenizer, { tokens, merges, userDefinedIds })
  return { encoder, tokens, specialIds, bytesOfId }
}

function createTokenizer(
  tokens: readonly string[],
  merges: readonly string[],
  specialIds: ReadonlyMap<string, number>,
  preTokenizers: readonly object[],
): LibraryTokenizer {
  return new Tokenizer(
    {
      version: '1.0',
      added_tokens: [...specialIds].map(([content, id]) => ({ id, content, special: true })),
      normalizer: null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: preTokenizers },
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

function readSentencePiece(metadata: GgufMetadata): Tokens {
  const { tokens, types } = readTokens(metadata)
  const scores = metadata.numbers('tokenizer.ggml.scores')
  if (scores.length !== tokens.length)
    throw new GgufError('the vocabulary does not have one score for each token')
  const specialIds = new Map<string, number>()
  const userDefinedIds = new Map<string, number>()
  const pieceIds = new Map<string, number>()
  const byteIds: number[] = []
  const bytesOfId: (Uint8Array | undefined)[] = []
  const utf8 = new TextEncoder()
  for (const [id, token] of tokens.entries()) {
    switch (types[id]) {
      case TOKEN_TYPE_NORMAL:
        pieceIds.set(token, id)
        bytesOfId[id] = utf8.encode(token.replaceAll(SPACE_MARK, ' '))
        break
      case TOKEN_TYPE_UNKNOWN:
      case TOKEN_TYPE_CONTROL:
        specialIds.set(token, id)
        break
      case TOKEN_TYPE_USER_DEFINED:
        userDefinedIds.set(token, id)
        bytesOfId[id] = utf8.encode(token)
        break
      case TOKEN_TYPE_BYTE: {
        const hex = BYTE_TOKEN.exec(token)?.[1]
        if (hex === undefined)
          throw new GgufError(`token ${id} is of type byte and does not name one: ${token}`)
        byteIds[parseInt(hex, 16)] = id
        bytesOfId[id] = Uint8Array.of(parseInt(hex, 16))
        break
      }
      case TOKEN_TYPE_UNUSED:
        break
      default:
        throw new GgufError(`token ${id} is of type ${types[id]!}, which is not served`)
    }
  }
  for (let byte = 0; byte < 256; byte++) {
    if (byteIds[byte] === undefined) {
      throw new GgufError(`the vocabulary has no token for byte ${byte}`)
    }
  }
  const addsSpacePrefix = metadata.optionalBoolean('tokenizer.ggml.add_space_prefix') ?? true
  const pieces = { pieceIds, scores, byteIds, userDefinedIds, addsSpacePrefix }
  return { encoder: new SentencePieceEncoder(pieces), tokens, specialIds, bytesOfId }
}
