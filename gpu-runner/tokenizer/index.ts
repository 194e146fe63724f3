export { ChatTokenizer, NoChatTemplateError } from './chat-tokenizer.ts'
export { PromptTooLongError } from './section-encoder.ts'
export type { Detokenizer } from './detokenizer.ts'
