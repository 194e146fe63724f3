export { ChatTokenizer, PromptTooLongError } from './chat-tokenizer.ts'
export type { Detokenizer } from './detokenizer.ts'
