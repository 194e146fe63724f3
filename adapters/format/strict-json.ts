/*
 * The part of JSON that a safetensors header uses: objects, arrays, strings and whole numbers.
 * JSON.parse keeps the last of two equal keys, so two readers could see different content in one
 * file; here a repeated key is an error. Objects become Maps, so that no key, such as `__proto__`, has
 * a special meaning.
 */

export type StrictJson = string | number | readonly StrictJson[] | ReadonlyMap<string, StrictJson>

/** Header, tensor, shape: the format has no deeper nesting. */
const MAX_DEPTH = 3
/** At most 2,048 tensors with eight values each need half of this; keys do not count. */
const MAX_VALUES = 32_768

const WHOLE_NUMBER = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y

class JsonError extends Error {}

/** @returns the value, or a message that names the first fault and its position */
export function parseStrictJson(
  text: string,
): { readonly value: StrictJson } | { readonly fault: string } {
  try {
    return { value: new Parser(text).parse() }
  } catch (error) {
    if (error instanceof JsonError) return { fault: error.message }
    throw error
  }
}

class Parser {
  readonly #text: string
  #at = 0
  #numValues = 0

  constructor(text: string) {
    this.#text = text
  }

  parse(): StrictJson {
    const value = this.#value(0)
    this.#skipSpace()
    if (this.#at !== this.#text.length) this.#fail('text after the end')
    return value
  }

  #value(depth: number): StrictJson {
    if (depth > MAX_DEPTH) this.#fail('nested too deeply')
    if (++this.#numValues > MAX_VALUES) this.#fail(`more than ${MAX_VALUES} values`)
    this.#skipSpace()
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth)
      case '[':
        return this.#array(depth)
      case '"':
        return this.#string()
      default: {
        const digits = this.#take(WHOLE_NUMBER)
        const value = Number(digits)
        if (digits === null || !Number.isSafeInteger(value)) this.#fail('expected a value')
        return value
      }
    }
  }

  #object(depth: number): ReadonlyMap<string, StrictJson> {
    const object = new Map<string, StrictJson>()
    this.#at++
    if (this.#punctuation('}')) return object
    do {
      this.#skipSpace()
      const key = this.#string()
      if (object.has(key)) this.#fail(`repeated key ${JSON.stringify(key)}`)
      if (!this.#punctuation(':')) this.#fail('expected ":"')
      object.set(key, this.#value(depth + 1))
    } while (this.#punctuation(','))
    if (!this.#punctuation('}')) this.#fail('expected "," or "}"')
    return object
  }

  #array(depth: number): readonly StrictJson[] {
    const array: StrictJson[] = []
    this.#at++
    if (this.#punctuation(']')) return array
    do array.push(this.#value(depth + 1))
    while (this.#punctuation(','))
    if (!this.#punctuation(']')) this.#fail('expected "," or "]"')
    return array
  }

  #string(): string {
    if (this.#text[this.#at] !== '"') this.#fail('expected a string')
    // A loop, because the backtracking stack of a regular expression would grow with a hostile string.
    let end = this.#at + 1
    while (end < this.#text.length && this.#text[end] !== '"')
      end += this.#text[end] === '\\' ? 2 : 1
    try {
      const value = JSON.parse(this.#text.slice(this.#at, end + 1)) as string
      this.#at = end + 1
      return value
    } catch {
      return this.#fail('malformed string')
    }
  }

  #punctuation(mark: string): boolean {
    this.#skipSpace()
    if (this.#text[this.#at] !== mark) return false
    this.#at++
    return true
  }

  #skipSpace(): void {
    for (;;) {
      const unit = this.#text.charCodeAt(this.#at)
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return
      this.#at++
    }
  }

  /** Consumes the match of a sticky pattern at the current position; null if there is none. */
  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#text)
    if (match === null) return null
    this.#at = pattern.lastIndex
    return match[0]
  }

  #fail(what: string): never {
    throw new JsonError(`${what} at character ${this.#at}`)
  }
}
