import type { ToolFormat } from './tool-format.ts'

/** What an answer's text turns out to be, in order. */
export type AnswerPart =
  | { readonly kind: 'text'; readonly text: string }
  /** A call begins; its arguments follow, or stand here whole. */
  | { readonly kind: 'call'; readonly name: string; readonly arguments: string }
  /** More of the last call's arguments. */
  | { readonly kind: 'arguments'; readonly text: string }
  | { readonly kind: 'call-end' }

/** A call up to its arguments' object, after what may stand between calls. */
const HEAD =
  /^\s*(?:[[,;]\s*)?\{\s*"name"\s*:\s*"([\w-]{1,64})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)/
/** A head longer than this is none; the call is then read whole. */
const MAX_HEAD_LEN = 512

type State =
  /** Free text; `#held` may be a marker's beginning, or white space that a marker would swallow. */
  | 'text'
  /** In a section of calls, before a call's arguments. `#held` is all that was not given out. */
  | 'head'
  | 'arguments'
  /** After a call's arguments. */
  | 'tail'
  /** No call can follow. */
  | 'plain'

/**
 * Finds the calls in an answer's text as it comes. The arguments go out as the model writes them;
 * what looks like a call and is none, or names no known function, stays text.
 */
export class ToolCallParser {
  readonly #format: ToolFormat
  readonly #names: ReadonlySet<string>
  #state: State
  #held = ''
  /** White space is dropped after a call. */
  #isAfterCall = false
  #depth = 0
  #isInString = false
  #isEscaped = false

  constructor(format: ToolFormat, names: Iterable<string>) {
    this.#format = format
    this.#names = new Set(names)
    this.#state = format.markers === null ? 'head' : 'text'
  }

  /** @param text what the answer goes on with */
  push(text: string): AnswerPart[] {
    this.#held += text
    const parts: AnswerPart[] = []
    while (this.#step(parts)) continue
    return parts
  }

  /** The answer has ended: what was held back. */
  flush(): AnswerPart[] {
    const parts: AnswerPart[] = []
    if (this.#state === 'head') this.#readWhole(this.#held, parts)
    else if (this.#state === 'text' || this.#state === 'plain') this.#say(this.#held, parts)
    this.#held = ''
    this.#state = 'plain'
    return parts
  }

  /** @returns whether there may be more to do without more text */
  #step(parts: AnswerPart[]): boolean {
    switch (this.#state) {
      case 'plain':
        this.#say(this.#held, parts)
        this.#held = ''
        return false
      case 'text':
        return this.#readText(parts)
      case 'head':
        return this.#readHead(parts)
      case 'arguments':
        return this.#readArguments(parts)
      case 'tail':
        return this.#readTail()
    }
  }

  #readText(parts: AnswerPart[]): boolean {
    const { begin } = this.#format.markers!
    const at = this.#held.indexOf(begin)
    if (at >= 0) {
      // White space before a call is no text; before what only looks like one it is.
      const said = this.#held.slice(0, at).trimEnd()
      this.#say(said, parts)
      this.#held = this.#held.slice(said.length)
      this.#state = 'head'
      return true
    }
    const kept = this.#held.slice(0, this.#held.length - lengthHeldFor(begin, this.#held)).trimEnd()
    this.#say(kept, parts)
    this.#held = this.#held.slice(kept.length)
    return false
  }

  #readHead(parts: AnswerPart[]): boolean {
    const { markers } = this.#format
    const inner = this.#inner()
    if (markers === null && /^\s*[^\s{]/.test(inner)) {
      this.#state = 'plain'
      return true
    }
    const head = HEAD.exec(inner.slice(0, MAX_HEAD_LEN))
    if (head && this.#names.has(head[1]!)) {
      parts.push({ kind: 'call', name: head[1]!, arguments: '' })
      this.#held = inner.slice(head[0].length)
      this.#state = 'arguments'
      this.#depth = 0
      return true
    }
    const end = markers === null ? -1 : this.#held.indexOf(markers.end)
    if (end < 0) return false
    const after = end + markers!.end.length
    this.#readWhole(this.#held.slice(0, after), parts)
    this.#held = this.#held.slice(after)
    this.#state = 'text'
    return true
  }

  /** The held text after the marker, where the section has just begun. */
  #inner(): string {
    const begin = this.#format.markers?.begin ?? ''
    const text = this.#held.trimStart()
    return text.startsWith(begin) ? text.slice(begin.length) : text
  }

  #readArguments(parts: AnswerPart[]): boolean {
    const text = this.#held
    let end = 0
    while (end < text.length) {
      this.#scan(text[end]!)
      end += 1
      if (this.#depth === 0) break
    }
    if (end > 0) parts.push({ kind: 'arguments', text: text.slice(0, end) })
    this.#held = text.slice(end)
    if (this.#depth > 0 || end === 0) return false
    parts.push({ kind: 'call-end' })
    this.#isAfterCall = true
    this.#state = 'tail'
    return true
  }

  #scan(char: string): void {
    if (this.#isInString) {
      if (this.#isEscaped) this.#isEscaped = false
      else if (char === '\\') this.#isEscaped = true
      else if (char === '"') this.#isInString = false
    } else if (char === '"') this.#isInString = true
    else if (char === '{' || char === '[') this.#depth += 1
    else if (char === '}' || char === ']') this.#depth -= 1
  }

  #readTail(): boolean {
    const next = /^\s*\}\s*(?:[,;]\s*)?(?=\{)/.exec(this.#held)
    if (next) {
      this.#held = this.#held.slice(next[0].length)
      this.#state = 'head'
      return true
    }
    const end = this.#format.markers?.end
    const at = end === undefined ? -1 : this.#held.indexOf(end)
    if (at < 0) return false
    this.#held = this.#held.slice(at + end!.length)
    this.#state = 'text'
    return true
  }

  /** A section that did not read as it came: calls if it is JSON of them, else text. */
  #readWhole(section: string, parts: AnswerPart[]): void {
    const calls = readCalls(section, this.#format, this.#names)
    if (calls === null) {
      this.#say(section, parts)
      return
    }
    for (const call of calls) parts.push(call, { kind: 'call-end' })
    this.#isAfterCall = true
  }

  #say(text: string, parts: AnswerPart[]): void {
    const said = this.#isAfterCall ? text.trimStart() : text
    if (said === '') return
    this.#isAfterCall = false
    parts.push({ kind: 'text', text: said })
  }
}

/** Length of the longest end of the text that the marker begins with, and is not the whole of. */
function lengthHeldFor(marker: string, text: string): number {
  for (let length = Math.min(marker.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(marker.slice(0, length))) return length
  }
  return 0
}

/** @returns null where the section holds no calls, or one of an unknown function */
function readCalls(
  section: string,
  { markers }: ToolFormat,
  names: ReadonlySet<string>,
): Extract<AnswerPart, { kind: 'call' }>[] | null {
  const { begin, end } = markers ?? { begin: '', end: '' }
  const text = section.trimStart()
  const inner = text.startsWith(begin) ? text.slice(begin.length) : text
  const value = parseJson(end !== '' && inner.endsWith(end) ? inner.slice(0, -end.length) : inner)
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  const calls = list.map((item): Extract<AnswerPart, { kind: 'call' }> | null => {
    if (typeof item !== 'object' || item === null) return null
    const { name, arguments: own, parameters } = item as Readonly<Record<string, unknown>>
    if (typeof name !== 'string' || !names.has(name)) return null
    const given = own ?? parameters ?? {}
    // Some models write the arguments as a text that is JSON itself.
    return {
      kind: 'call',
      name,
      arguments: typeof given === 'string' ? given : JSON.stringify(given),
    }
  })
  return calls.length > 0 && calls.every((call) => call !== null) ? calls : null
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
