import * as library from '@huggingface/tokenizers'

/**
 * What this project uses of `@huggingface/tokenizers`. Its own declarations import each other without
 * file extensions, so TypeScript finds nothing behind them under NodeNext (0.2.0).
 */
export interface LibraryTokenizer {
  readonly pre_tokenizer: (text: string) => string[]
  readonly model: {
    (preTokens: readonly string[]): string[]
    readonly tokens_to_ids: ReadonlyMap<string, number>
  }
}

type TokenizerConstructor = new (tokenizerJson: object, config: object) => LibraryTokenizer

export const Tokenizer = (library as unknown as { Tokenizer: TokenizerConstructor }).Tokenizer
