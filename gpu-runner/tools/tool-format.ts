/** How models write a call of a function: what their templates teach them, as data. */
export type ToolFormat = {
  readonly name: string
  /**
   * Whether a template's prompt teaches or shows this format.
   * @param prompt with a function, and a call of one named `callName` where the template shows calls
   */
  readonly isOf: (prompt: string, callName: string) => boolean
  /** What a section of calls begins and ends with; null: the whole answer is a call, or none is. */
  readonly markers: { readonly begin: string; readonly end: string } | null
  /** Around and between calls as such a model writes them; `open` starts with the marker. */
  readonly open: string
  readonly between: string
  readonly close: string
  readonly argumentsKey: 'arguments' | 'parameters'
  /** Whether several calls stand in one answer. */
  readonly parallel: boolean
}

const MARKERS = { begin: '<tool_call>', end: '</tool_call>' }

/** In the order in which they are looked for. */
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
