import type { ChatMessage, PromptMessage } from '../../src/protocol/runner.ts'
import type { ToolFunction } from '../../src/protocol/tools.ts'
import type { ToolFormat } from './tool-format.ts'

/** How calls are written where the model's template has no way of its own: the answer is one. */
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
 * A chat with functions for a template that takes none: the functions stand in the system message,
 * calls are what the assistant said and results what the user did.
 */
export function toGenericChat(
  messages: readonly ChatMessage[],
  functions: readonly ToolFunction[],
): readonly PromptMessage[] {
  const chat: PromptMessage[] = []
  const add = (role: PromptMessage['role'], content: string): void => {
    const last = chat.at(-1)
    // Results of several calls, and what the user says to them, are one turn.
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

/** As the grammar has answers written: a space after each colon and comma. */
function writeJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(writeJson).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const pairs = Object.entries(value).map(
    ([key, item]) => `${JSON.stringify(key)}: ${writeJson(item)}`,
  )
  return `{${pairs.join(', ')}}`
}

/** Whether a message holds calls, or the result of one. */
export const isOfTools = (message: ChatMessage): boolean =>
  message.role === 'tool' || 'tool_calls' in message
