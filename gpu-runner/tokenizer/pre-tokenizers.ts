/** Unicode's white space. JavaScript's `\s` adds U+FEFF and lacks U+0085. */
const WS = '\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'

const split = (pattern: string): object => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
})
const byteLevel = (splitsWords: boolean): object => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: splitsWords,
})

/**
 * How byte-level vocabularies cut text into words; the keys are values of `tokenizer.ggml.pre`.
 * Source: llama.cpp src/llama-vocab.cpp, llm_tokenizer_bpe
 */
export const PRE_TOKENIZERS: Readonly<Record<string, readonly object[]>> = {
  // Digits(individual_digits) as a split, since the library's own Digits knows ASCII only.
  smollm: [split('\\p{N}'), byteLevel(true)],
  qwen2: [
    split(
      [
        "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
        '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+',
        '\\p{N}',
        ` ?[^${WS}\\p{L}\\p{N}]+[\\r\\n]*`,
        `[${WS}]*[\\r\\n]+`,
        `[${WS}]+(?![^${WS}])`,
        `[${WS}]+`,
      ].join('|'),
    ),
    byteLevel(false),
  ],
}
