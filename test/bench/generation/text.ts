/** Diversity of continuations, and how they may be shown. */

const wordsOf = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '')
/** Only letters and digits, so that quotation marks do not make another word. */
const plain = (word: string): string => word.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '')

/** Distinct word pairs among all of the texts', as a share; 1 where there are none. */
export function distinctPairs(texts: readonly string[]): number {
  const pairs = texts.flatMap((text) => {
    const words = wordsOf(text).map(plain)
    return words.slice(1).map((word, i) => `${words[i]!} ${word}`)
  })
  return pairs.length === 0 ? 1 : new Set(pairs).size / pairs.length
}

/** Longest run of words that may repeat the prompt; a longer one would show a data set's row. */
const MAX_SHARED_WORDS = 4
const HIDDEN = '[…]'

/** A continuation without the runs of words that it repeats from its prompt. */
export function hidePrompt(text: string, prompt: string): string {
  const words = wordsOf(text)
  const given = ` ${wordsOf(prompt).map(plain).join(' ')} `
  const isShared = new Array<boolean>(words.length).fill(false)
  for (let start = 0; start < words.length; start++) {
    const run = words.slice(start, start + MAX_SHARED_WORDS + 1).map(plain)
    if (run.length <= MAX_SHARED_WORDS || !given.includes(` ${run.join(' ')} `)) continue
    isShared.fill(true, start, start + run.length)
  }
  const shown = words.flatMap((word, i) => {
    if (!isShared[i]) return [word]
    return i > 0 && isShared[i - 1] ? [] : [HIDDEN]
  })
  return shown.join(' ')
}
