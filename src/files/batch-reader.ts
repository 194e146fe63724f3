import {
  batchLineSchema,
  MAX_BATCH_LINES,
  type BatchEndpoint,
  type BatchError,
  type BatchLine,
} from '../protocol/openai/batches.ts'
import { ApiError } from '../protocol/openai/error.ts'
import { parseWire } from '../protocol/parse.ts'
import { LineSplitter, MAX_LINE_BYTES } from './line-splitter.ts'

/** This many faults are kept; the rest are counted. */
const MAX_FAULTS = 50
const BOM = 0xfeff

type Fault = Pick<BatchError, 'code' | 'message'> & { readonly param?: string }
/** Looks at a line. @returns null if nothing is wrong with it */
export type CheckLine = (value: Record<string, unknown>, lineNumber: number) => Fault | null

/** Reads a file of requests as a stream and gathers the faults of its lines. */
export class BatchReader {
  readonly #splitter: LineSplitter
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  readonly #check: CheckLine
  readonly #faults: BatchError[] = []
  #numFaults = 0
  #numLines = 0
  #numRequests = 0

  /** @param check called for each line that is a JSON object */
  constructor(check: CheckLine = () => null) {
    this.#check = check
    this.#splitter = new LineSplitter((number, bytes) => {
      this.#readLine(number, bytes)
    })
  }

  get numExamples(): number {
    return this.#numRequests
  }

  get numLines(): number {
    return this.#numLines
  }

  get isSound(): boolean {
    return this.#numFaults === 0 && !this.isTooMany
  }

  /** Whether the file has too many lines. The rest is then not read. */
  get isTooMany(): boolean {
    return this.#numLines > MAX_BATCH_LINES
  }

  push(chunk: Uint8Array): void {
    if (!this.isTooMany) this.#splitter.push(chunk)
  }

  end(): void {
    if (!this.isTooMany) this.#splitter.end()
  }

  /** What is wrong with the file; empty if nothing is. */
  faults(): readonly BatchError[] {
    const ofFile = (code: string, message: string) => ({ code, line: null, message, param: null })
    if (this.isTooMany) {
      return [ofFile('too_many_requests', `The file has more than ${MAX_BATCH_LINES} lines.`)]
    }
    if (this.#numFaults === 0 && this.#numRequests === 0) {
      return [ofFile('empty_file', 'The file holds no requests.')]
    }
    const numMore = this.#numFaults - this.#faults.length
    if (numMore === 0) return this.#faults
    return [...this.#faults, ofFile('more_errors', `${numMore} more lines have faults.`)]
  }

  describeFault(): string | null {
    const faults = this.faults()
    if (faults.length === 0) return null
    return faults
      .map(({ line, message }) => (line === null ? message : `Line ${line}: ${message}`))
      .join(' ')
  }

  #readLine(number: number, bytes: Uint8Array | 'too_long'): void {
    this.#numLines = number
    if (this.isTooMany) return
    const fault = this.#faultOf(number, bytes)
    if (fault === null) return
    this.#numFaults += 1
    if (this.#faults.length >= MAX_FAULTS) return
    this.#faults.push({ param: null, ...fault, line: number })
  }

  #faultOf(number: number, bytes: Uint8Array | 'too_long'): Fault | null {
    const malformed = (message: string) => ({ code: 'invalid_json_line', message })
    if (bytes === 'too_long') {
      return { code: 'line_too_long', message: `The line is longer than ${MAX_LINE_BYTES} bytes.` }
    }
    let value: unknown
    try {
      let text = this.#decoder.decode(bytes)
      if (number === 1 && text.charCodeAt(0) === BOM) text = text.slice(1)
      if (text.trim() === '') return null
      value = JSON.parse(text)
    } catch {
      return malformed('The line is not valid JSON in UTF-8.')
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return malformed('The line is not a JSON object.')
    }
    this.#numRequests += 1
    return this.#check(value as Record<string, unknown>, number)
  }
}

/** Reads a line as a request to an endpoint. */
export function parseBatchLine(
  value: Record<string, unknown>,
  endpoint: BatchEndpoint,
): { readonly line: BatchLine } | { readonly fault: Fault } {
  let line: BatchLine
  try {
    line = parseWire(batchLineSchema, value)
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    const { param, message } = error
    const code = param !== null && value[param] === undefined ? 'missing_required_parameter' : null
    return { fault: { code: code ?? 'invalid_parameter', message, ...(param && { param }) } }
  }
  if (line.url === endpoint) return { line }
  const message = `The url ${line.url.slice(0, 100)} is not the batch's endpoint, ${endpoint}.`
  return { fault: { code: 'mismatched_url', message, param: 'url' } }
}
