import type { GenerateRequest } from '../../src/protocol/runner.ts'
import type { GrammarStore, OpenGrammar } from '../grammar/grammar-store.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { ChatTokenizer } from '../tokenizer/index.ts'
import { hasCallOrResult } from '../tools/generic-form.ts'
import type { ToolFormat } from '../tools/tool-format.ts'
import { writeToolGrammar } from '../grammar/tool-grammar.ts'

/**
 * Opens the grammar that a request's answer must satisfy, with a row for each arm.
 * @returns null for free text, which may hold calls
 * @throws {RunnerFault} as {@link checkTools} and the store
 */
export async function openGrammar(
  { grammars, tokenizer }: { readonly grammars: GrammarStore; readonly tokenizer: ChatTokenizer },
  wire: GenerateRequest,
): Promise<OpenGrammar | null> {
  const { response_format: format, tools, arms } = wire
  const toolFormat = checkTools(tokenizer, wire)
  if (tools && toolFormat) {
    const written = writeToolGrammar(toolFormat, tools, format)
    return written === null ? null : grammars.openWritten(written, arms.length, 'tools')
  }
  return format ? grammars.open(format, arms.length) : null
}

/**
 * Checks that the model's template can show a request's functions and calls.
 * @returns how the model writes calls; null where the request has no functions
 * @throws {RunnerFault} invalid_request naming the field that the template would leave out
 */
export function checkTools(
  tokenizer: ChatTokenizer,
  { messages = [], tools, prompt, choice }: GenerateRequest,
): ToolFormat | null {
  const { showsCalls, format } = tokenizer.toolSupport
  const refuse = (message: string, param: string): RunnerFault =>
    new RunnerFault('invalid_request', message, { param })
  if (messages.some(hasCallOrResult) && !showsCalls) {
    throw refuse(
      'this model’s chat template has no place for function calls and results',
      'messages',
    )
  }
  if (tools === undefined) return null
  if (prompt !== undefined) throw refuse('tools need messages, not a prompt', 'tools')
  if (choice) throw refuse('tools and a choice of labels exclude each other', 'tools')
  if (format === null) {
    throw refuse('this model’s chat template writes calls in an unknown form', 'tools')
  }
  return format
}

/** Whether the prompt shows a request's functions, calls or results in the generic form. */
export const isGeneric = (
  tokenizer: ChatTokenizer,
  { tools, messages = [] }: GenerateRequest,
): boolean =>
  (tools !== undefined || messages.some(hasCallOrResult)) && !tokenizer.toolSupport.showsFunctions
