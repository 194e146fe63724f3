import type { GrammarRow } from '../../../gpu-runner/grammar/grammar-row.ts'
import type { ChatTokenizer } from '../../../gpu-runner/tokenizer/index.ts'

/**
 * Draws among the tokens admitted; after `patience` tokens prefers what brings the end nearer.
 * @returns null for a text that has not ended after `maxSteps` tokens
 */
export function walkRow(
  tokenizer: ChatTokenizer,
  row: GrammarRow,
  random: () => number,
  patience: number,
  maxSteps = 400,
): string | null {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const bytes: number[] = []
  const logits = new Float32Array(tokenizer.vocabSize)
  for (let step = 0; step < maxSteps; step++) {
    if (row.poll(30_000) !== 'ready') throw new Error('no mask')
    logits.fill(0)
    row.process(logits)
    const admitted: number[] = []
    for (let id = 0; id < logits.length; id++) if (logits[id] === 0) admitted.push(id)
    const ending = admitted.find((id) => tokenizer.stopIds.has(id))
    if (ending !== undefined && (step > patience || admitted.length === tokenizer.stopIds.size)) {
      return decoder.decode(Uint8Array.from(bytes))
    }
    const from = (step > patience && closing(tokenizer, admitted)) || admitted
    const id = from[Math.floor(random() * from.length)]!
    if (tokenizer.stopIds.has(id)) return decoder.decode(Uint8Array.from(bytes))
    bytes.push(...tokenizer.textBytesOf(id)!)
    row.accept(id)
  }
  return null
}

/** Tokens that lead towards an end, best first. */
const CLOSERS = [['"', '}', ']'], ['@', '.'], ['0']]

function closing(tokenizer: ChatTokenizer, admitted: readonly number[]): readonly number[] | null {
  const texts = admitted.map((id) => String.fromCharCode(...tokenizer.bytesOf(id)))
  const best = CLOSERS.find((closers) => texts.some((text) => closers.includes(text)))
  return best === undefined ? null : admitted.filter((_, i) => best.includes(texts[i]!))
}
