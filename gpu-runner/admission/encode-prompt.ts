import type { ChatMessage, GenerateRequest } from '../../src/protocol/runner.ts'
import type { ToolFunction } from '../../src/protocol/tools.ts'
import { RunnerFault } from '../runner-fault.ts'
import { NoChatTemplateError, PromptTooLongError, type ChatTokenizer } from '../tokenizer/index.ts'

/**
 * Encodes whichever a request has, messages or a given prompt.
 * @throws {RunnerFault} as {@link encodeMessages}; a prompt that is empty or has unknown tokens
 */
export function encodePrompt(
  tokenizer: ChatTokenizer,
  { messages, prompt, tools }: GenerateRequest,
  maxTokens: number,
): readonly number[] {
  return messages === undefined
    ? encodeGivenPrompt(tokenizer, prompt ?? [], maxTokens)
    : encodeMessages(tokenizer, messages, maxTokens, tools?.functions)
}

/** @throws {RunnerFault} context_length_exceeded; invalid_request where the template refuses */
export function encodeMessages(
  tokenizer: ChatTokenizer,
  messages: readonly ChatMessage[],
  maxTokens: number,
  functions: readonly ToolFunction[] = [],
): number[] {
  try {
    return tokenizer.encodeChat(messages, { maxTokens, functions })
  } catch (error) {
    if (error instanceof PromptTooLongError) throw tooLongFault(error, 'messages')
    const reason = error instanceof Error ? error.message : String(error)
    const message =
      error instanceof NoChatTemplateError ? reason : `the chat template refuses: ${reason}`
    throw new RunnerFault('invalid_request', message, { param: 'messages' })
  }
}

function encodeGivenPrompt(
  tokenizer: ChatTokenizer,
  prompt: string | readonly number[],
  maxTokens: number,
): readonly number[] {
  const ids = typeof prompt === 'string' ? encodeText(tokenizer, prompt, maxTokens) : prompt
  if (ids.length === 0) throw promptFault('the prompt has no tokens')
  if (ids.length > maxTokens) throw tooLongFault(new PromptTooLongError(maxTokens), 'prompt')
  const unknown = ids.find((id) => id >= tokenizer.vocabSize)
  if (unknown !== undefined) throw promptFault(`the vocabulary has no token ${unknown}`)
  return ids
}

function encodeText(tokenizer: ChatTokenizer, text: string, maxTokens: number): number[] {
  try {
    return tokenizer.encode(text, { maxTokens })
  } catch (error) {
    if (error instanceof PromptTooLongError) throw tooLongFault(error, 'prompt')
    throw error
  }
}

const promptFault = (message: string): RunnerFault =>
  new RunnerFault('invalid_request', message, { param: 'prompt' })

/** @param param the request's field that holds the text */
export const tooLongFault = ({ message }: PromptTooLongError, param: string): RunnerFault =>
  new RunnerFault('context_length_exceeded', message, { param })
