import type { ToolFormat } from './tool-format.ts'

/** A part of an answer: text, or part of a call. */
export type AnswerPart =
  | { readonly kind: 'text'; readonly text: string }
  /** A call begins. Its arguments follow, or are complete here. */
  | { readonly kind: 'call'; readonly name: string; readonly arguments: string }
  /** The next part of the last call's arguments. */
  | { readonly kind: 'arguments'; readonly text: string }
  | { readonly kind: 'call-end' }

/** A call up to its arguments, after the characters that may stand between calls. */
const HEAD =
  /^\s*(?:[[,;]\s*)?\{\s*"name"\s*:\s*"([\w-]{1,64})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)/
/** A call whose arguments begin later than this is only read once it is complete. */
const MAX_HEAD_LEN = 512

type State =
  /** Free text. `#held` may be a marker's beginning, or white space that is dropped before a marker. */
  | 'text'
  /** In a section of calls, before a call's arguments. `#held` is all text not given out yet. */
  | 'head'
  | 'arguments'
  /** After a call's arguments. */
  | 'tail'
  /** No call can follow. */
  | 'plain'

/**
 * Finds the calls in an answer's text as it comes. Arguments are given out as the model writes them.
 * Text that looks like a call but is none, or names no known function, stays text.
 */
export class ToolCallParser {
  readonly #format: ToolFormat
  readonly #names: ReadonlySet<string>
  #state: State
  #held = ''
  /** A call came last, so white space is dropped. */
  #isAfterCall = false
  #depth = 0
  #isInString = false
  #isEscaped = false

  constructor(format: ToolFormat, names: Iterable<string>) {
    this.#format = format
    this.#names = new Set(names)
    this.#state = format.markers === null ? 'head' : 'text'
  }

  /** @param text the answer's next piece of text */
  push(text: string): AnswerPart[] {
    this.#held += text
    const parts: AnswerPart[] = []
    while (this.#step(parts)) continue
    return parts
  }

  /** Gives out the text held back once the answer has ended. */
  flush(): AnswerPart[] {
    const parts: AnswerPart[] = []
    if (this.#state === 'head') this.#readWhole(this.#held, parts)
    else if (this.#state === 'text' || this.#state === 'plain') this.#say(this.#held, parts)
    this.#held = ''
    this.#state = 'plain'
    return parts
  }

  /** @returns whether another step may get further without more text */
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
      // White space before a call is dropped. It is held, since this may only look like a call.
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

  /** The held text without the marker that it may begin with. */
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

  /** Reads a section that could not be read as it came: calls if it is their JSON, else text. */
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

/** Length of the longest part of the marker, short of the whole, that begins it and ends the text. */
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
    // Some models write the arguments as a string of JSON.
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
