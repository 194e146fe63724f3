import { ToolCallParser, type AnswerPart } from '../tools/tool-call-parser.ts'
import type { ToolFormat } from '../tools/tool-format.ts'
import type { Decoding, DecodingOutput } from './decoding.ts'

export type ToolDecodingOptions = {
  readonly format: ToolFormat
  /** Names of the functions. */
  readonly names: readonly string[]
  /** False: the answer ends with its first call. */
  readonly parallel: boolean
}

/** Text in which functions may be called: reads another decoding's text and finds the calls in it. */
export class ToolDecoding implements Decoding {
  readonly #text: Decoding
  readonly #parser: ToolCallParser
  readonly #parallel: boolean
  #numTokens = 0
  /** Calls begun. */
  #numCalls = 0
  /** Calls that are complete. */
  #numComplete = 0

  constructor(text: Decoding, { format, names, parallel }: ToolDecodingOptions) {
    this.#text = text
    this.#parser = new ToolCallParser(format, names)
    this.#parallel = parallel
  }

  get next(): Decoding['next'] {
    return this.#text.next
  }

  get maxOffsets(): number {
    return this.#text.maxOffsets
  }

  read(logits: Float32Array): DecodingOutput[] {
    const outputs: DecodingOutput[] = []
    for (const output of this.#text.read(logits)) {
      if (output.kind === 'token') {
        this.#numTokens += output.ids.length
        outputs.push(...this.#toOutputs(this.#parser.push(output.text), output))
        if (this.#numComplete > 0 && !this.#parallel) {
          const completionTokens = this.#numTokens
          return [...outputs, { kind: 'finish', reason: 'tool_calls', completionTokens }]
        }
      } else if (output.kind === 'finish') {
        outputs.push(...this.#toOutputs(this.#parser.flush()))
        const areCalls = this.#numCalls > 0 && this.#numComplete === this.#numCalls
        const reason = output.reason === 'stop' && areCalls ? 'tool_calls' : output.reason
        outputs.push({ ...output, reason })
      } else outputs.push(output)
    }
    return outputs
  }

  /** @param token the token whose text this is: its id and log probability are given out in any case */
  #toOutputs(
    parts: readonly AnswerPart[],
    token?: Extract<DecodingOutput, { kind: 'token' }>,
  ): DecodingOutput[] {
    let text = ''
    const calls: DecodingOutput[] = []
    for (const part of parts) {
      // Where only one call is allowed, the answer ends with it.
      if (!this.#parallel && this.#numComplete > 0) break
      switch (part.kind) {
        case 'text':
          text += part.text
          break
        case 'call':
          this.#numCalls += 1
          calls.push(this.#callPart(part.arguments, part.name))
          break
        case 'arguments':
          calls.push(this.#callPart(part.text))
          break
        case 'call-end':
          this.#numComplete += 1
          break
      }
    }
    const isToken = token !== undefined || text !== ''
    return [...(isToken ? [{ kind: 'token' as const, ids: [], ...token, text }] : []), ...calls]
  }

  #callPart(json: string, name?: string): DecodingOutput {
    const index = this.#numCalls - 1
    return { kind: 'tool_call', index, arguments: json, ...(name === undefined ? {} : { name }) }
  }
}
