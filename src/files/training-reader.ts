import { LineSplitter, MAX_LINE_BYTES } from './line-splitter.ts'
import { parseTrainingLine, type AnswerKind, type TrainingExample } from './training-line.ts'

const MAX_LINES = 100_000
/** An error names this many lines and counts the rest. */
const MAX_NAMED_LINES = 20
const BOM = 0xfeff

export type OnExample = (example: TrainingExample, lineNumber: number) => void

/** Reads a training file as a stream and gathers the faults of its lines. */
export class TrainingReader {
  readonly #splitter: LineSplitter
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  readonly #onExample: OnExample
  readonly #named: string[] = []
  #numBad = 0
  #numExamples = 0
  #numLines = 0
  #isTooMany = false
  /** The first line whose kind of answer is sure. All others must have the same kind. */
  #first: { readonly kind: AnswerKind; readonly line: number } | null = null

  constructor(onExample: OnExample = () => undefined) {
    this.#onExample = onExample
    this.#splitter = new LineSplitter((number, bytes) => {
      this.#readLine(number, bytes)
    })
  }

  get numExamples(): number {
    return this.#numExamples
  }

  /** How many lines have been read, good and bad. */
  get numLines(): number {
    return this.#numLines
  }

  get isSound(): boolean {
    return this.#numBad === 0 && !this.#isTooMany
  }

  /** Whether the file has too many lines. The rest is then not read. */
  get isTooMany(): boolean {
    return this.#isTooMany
  }

  push(chunk: Uint8Array): void {
    if (!this.#isTooMany) this.#splitter.push(chunk)
  }

  end(): void {
    if (!this.#isTooMany) this.#splitter.end()
  }

  /** Says what is wrong with the file and names its bad lines; null if nothing is wrong. */
  describeFault(): string | null {
    if (this.#numBad > 0) {
      const rest = this.#numBad - this.#named.length
      const more = rest === 0 ? '' : `; and ${rest} more`
      const lines = this.#numBad === 1 ? '1 bad line' : `${this.#numBad} bad lines`
      return `The file has ${lines}: ${this.#named.join('; ')}${more}.`
    }
    if (this.#isTooMany) return `The file has more than ${MAX_LINES} lines.`
    return this.#numExamples === 0 ? 'The file holds no examples.' : null
  }

  #readLine(number: number, bytes: Uint8Array | 'too_long'): void {
    this.#numLines = number
    if (number > MAX_LINES) {
      this.#isTooMany = true
      return
    }
    if (bytes === 'too_long') {
      this.#refuse(number, `is longer than ${MAX_LINE_BYTES} bytes`)
      return
    }
    let text: string
    try {
      text = this.#decoder.decode(bytes)
    } catch {
      this.#refuse(number, 'is not UTF-8')
      return
    }
    if (number === 1 && text.charCodeAt(0) === BOM) text = text.slice(1)
    if (text.trim() === '') return
    const parsed = parseTrainingLine(text)
    if (!parsed.ok) {
      this.#refuse(number, parsed.error.message)
      return
    }
    const { kind } = parsed.value
    if (kind !== 'message') this.#first ??= { kind, line: number }
    if (this.#first !== null && kind !== 'message' && kind !== this.#first.kind) {
      const what = this.#first.kind === 'none' ? `a ${kind}` : `no ${this.#first.kind}`
      this.#refuse(number, `has ${what}, unlike line ${this.#first.line}`)
      return
    }
    this.#numExamples += 1
    this.#onExample(parsed.value, number)
  }

  #refuse(number: number, message: string): void {
    this.#numBad += 1
    if (this.#named.length < MAX_NAMED_LINES) this.#named.push(`line ${number} ${message}`)
  }
}
