/** How a model writes calls of functions, as its template teaches it. */
export type ToolFormat = {
  readonly name: string
  /**
   * Whether a template's prompt teaches or shows this format.
   * @param prompt a prompt with a function, and a call to `callName` where the template shows calls
   */
  readonly isOf: (prompt: string, callName: string) => boolean
  /**
   * Texts that begin and end a section of calls; null: the answer is one call, or text without calls.
   */
  readonly markers: { readonly begin: string; readonly end: string } | null
  /** Texts that the model writes before, between and after calls; `open` starts with the marker. */
  readonly open: string
  readonly between: string
  readonly close: string
  readonly argumentsKey: 'arguments' | 'parameters'
  /** Whether one answer may hold several calls. */
  readonly parallel: boolean
}

const MARKERS = { begin: '<tool_call>', end: '</tool_call>' }

/** All known formats, in the order in which they are tried. */
export const TOOL_FORMATS: readonly ToolFormat[] = [
  {
    // SmolLM2's tool prompt: one list of calls.
    name: 'tagged-list',
    isOf: (prompt) => /<tool_call>\s*\[/.test(prompt),
    markers: MARKERS,
    open: '<tool_call>[',
    between: ', ',
    close: ']</tool_call>',
    argumentsKey: 'arguments',
    parallel: true,
  },
  {
    // Hermes 2 Pro, Qwen 2.5 and 3, SmolLM3: a pair of tags a call.
    name: 'tagged',
    isOf: (prompt) => /<tool_call>\s*\{\s*"name"/.test(prompt),
    markers: MARKERS,
    open: '<tool_call>\n',
    between: '\n</tool_call>\n<tool_call>\n',
    close: '\n</tool_call>',
    argumentsKey: 'arguments',
    parallel: true,
  },
  {
    // Llama 3.1 and 3.2: the answer is one JSON object.
    name: 'bare-json',
    isOf: (prompt, callName) =>
      new RegExp(`\\{\\s*"name":\\s*"${callName}",\\s*"parameters":`).test(prompt),
    markers: null,
    open: '',
    between: '',
    close: '',
    argumentsKey: 'parameters',
    parallel: false,
  },
]
