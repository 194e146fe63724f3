import type { ChatMessage, PromptMessage } from '../../src/protocol/runner.ts'
import type { ToolFunction } from '../../src/protocol/tools.ts'
import type { ToolFormat } from './tool-format.ts'

/** How calls are written where the model's template takes none: the whole answer is one call. */
export const GENERIC_FORMAT: ToolFormat = {
  name: 'generic',
  isOf: () => false,
  markers: null,
  open: '',
  between: '',
  close: '',
  argumentsKey: 'arguments',
  parallel: false,
}

/**
 * Turns a chat with functions into one for a template that takes none. The system message describes the
 * functions, the assistant's messages hold the calls and the user's messages hold the results.
 */
export function toGenericChat(
  messages: readonly ChatMessage[],
  functions: readonly ToolFunction[],
): readonly PromptMessage[] {
  const chat: PromptMessage[] = []
  const add = (role: PromptMessage['role'], content: string): void => {
    const last = chat.at(-1)
    // Results of several calls and the user's own message after them are one turn.
    if (role === 'user' && last?.role === 'user') {
      chat[chat.length - 1] = { role, content: `${last.content}\n\n${content}` }
    } else chat.push({ role, content })
  }
  for (const message of messages) {
    if (message.role === 'tool') add('user', `Result of ${message.name}:\n${message.content}`)
    else if ('tool_calls' in message) {
      const calls = message.tool_calls.map(({ name, arguments: given }) => writeCall(name, given))
      add('assistant', [message.content, ...calls].filter((text) => text !== '').join('\n'))
    } else chat.push({ role: message.role, content: message.content })
  }
  if (functions.length === 0) return chat
  const described = describe(functions)
  const [first, ...rest] = chat
  return first?.role === 'system'
    ? [{ role: 'system', content: `${first.content}\n\n${described}` }, ...rest]
    : [{ role: 'system', content: described }, ...chat]
}

const describe = (functions: readonly ToolFunction[]): string =>
  [
    'You may call a function. These are the functions, each with the schema of its arguments:',
    ...functions.map(({ name, description, parameters = { type: 'object', properties: {} } }) =>
      writeJson({ name, ...(description === undefined ? {} : { description }), parameters }),
    ),
    'To call one, answer with one JSON object and nothing else:',
    '{"name": "the function\'s name", "arguments": {"an argument\'s name": "its value"}}',
  ].join('\n')

const writeCall = (name: string, given: object): string => writeJson({ name, arguments: given })

/** Writes JSON as the grammar does: with a space after each colon and comma. */
function writeJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(writeJson).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const pairs = Object.entries(value).map(
    ([key, item]) => `${JSON.stringify(key)}: ${writeJson(item)}`,
  )
  return `{${pairs.join(', ')}}`
}

/** Whether a message holds calls, or the result of one. */
export const hasCallOrResult = (message: ChatMessage): boolean =>
  message.role === 'tool' || 'tool_calls' in message
