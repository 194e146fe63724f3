import { literal } from './ebnf-literal.ts'

/** A schema's `pattern`, parsed: the parts of regular expressions that a grammar can enforce. */
export type Pattern =
  | { readonly kind: 'chars'; readonly ranges: readonly CharRange[] }
  | { readonly kind: 'sequence' | 'either'; readonly of: readonly Pattern[] }
  | {
      readonly kind: 'repeat'
      readonly of: Pattern
      readonly min: number
      readonly max: number | null
    }

/** Code points, both ends included. */
type CharRange = readonly [number, number]

/** Code units that are whole characters. Regular expression engines differ on surrogates. */
const ALL: readonly CharRange[] = [
  [0, 0xd7ff],
  [0xe000, 0xffff],
]
const DIGITS: readonly CharRange[] = [[0x30, 0x39]]
const WORD: readonly CharRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]
const SPACE: readonly CharRange[] = [
  ...([
    [9, 13],
    [0x20, 0x20],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
  ] as const),
  ...([
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
  ] as const),
  [0xfeff, 0xfeff],
]
const LINE_ENDS: readonly CharRange[] = [
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
]
const CLASSES: Readonly<Record<string, readonly CharRange[]>> = { d: DIGITS, w: WORD, s: SPACE }
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 }

/** Most characters past ASCII that are listed one by one. */
const MAX_LISTED_CHARS = 64
/** A set of up to so many characters lists its quotes and control characters too, as escapes. */
const MAX_SMALL_SET = 128 + MAX_LISTED_CHARS
const MAX_NODES = 500
/** Times that a part may be repeated. */
const MAX_REPEATS = 1000
/** Digits that an unbounded repeat admits: a weak model would go on writing them. */
const MAX_OPEN_DIGITS = 15

/**
 * Parses a pattern of characters, classes, groups, alternatives and repeats, with `^` and `$` at its
 * ends. The result admits only texts that the pattern admits, though not always all of them.
 * @returns null where no grammar enforces a part: assertions, back references, Unicode properties
 */
export function readPattern(source: string): Pattern | null {
  try {
    return new PatternReader(source).read()
  } catch (error) {
    if (error instanceof UnreadPatternError) return null
    throw error
  }
}

/** @returns the pattern limited to these lengths; null where it cannot be limited */
export function withLength(
  pattern: Pattern,
  minLength: number,
  maxLength: number | null,
): Pattern | null {
  const own = lengthsOf(pattern)
  if (own.min >= minLength && own.max <= (maxLength ?? Infinity)) return pattern
  const only = pattern.kind === 'sequence' && pattern.of.length === 1 ? pattern.of[0]! : pattern
  if (only.kind !== 'repeat' || only.of.kind !== 'chars') return null
  const min = Math.max(only.min, minLength)
  const max = Math.min(only.max ?? Infinity, maxLength ?? Infinity)
  return min > max ? null : { ...only, min, max: max === Infinity ? null : max }
}

function lengthsOf(pattern: Pattern): { readonly min: number; readonly max: number } {
  switch (pattern.kind) {
    case 'chars':
      return { min: 1, max: 1 }
    case 'repeat': {
      const { min, max } = lengthsOf(pattern.of)
      // Not Infinity × 0.
      const most = max === 0 || pattern.max === 0 ? 0 : max * (pattern.max ?? Infinity)
      return { min: min * pattern.min, max: most }
    }
    case 'sequence':
    case 'either': {
      const all = pattern.of.map(lengthsOf)
      const [mins, maxes] = [all.map(({ min }) => min), all.map(({ max }) => max)]
      const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
      return pattern.kind === 'sequence'
        ? { min: sum(mins), max: sum(maxes) }
        : { min: Math.min(...mins), max: Math.max(...maxes) }
    }
  }
}

/** Writes a pattern in XGrammar's EBNF, with characters as a JSON string holds them. */
export function writePattern(pattern: Pattern): string {
  switch (pattern.kind) {
    case 'chars':
      return writeChars(pattern.ranges, false)!
    case 'sequence':
      return pattern.of.length === 0 ? '""' : pattern.of.map(writePattern).join(' ')
    case 'either':
      return `(${pattern.of.map(writePattern).join(' | ')})`
    case 'repeat': {
      const { of, min } = pattern
      const isDigits =
        of.kind === 'chars' && of.ranges.every(([from, to]) => from >= 48 && to <= 57)
      const max = pattern.max ?? (isDigits ? Math.max(min, MAX_OPEN_DIGITS) : null)
      if (max === 0) return '""'
      const part = of.kind === 'chars' ? writeChars(of.ranges, max === null)! : writePattern(of)
      return `(${part}){${min},${max ?? ''}}`
    }
  }
}

/**
 * Writes a set of characters. ASCII characters that need no escape are written as ranges. Escapes and
 * characters past ASCII are listed one by one, and only where there are few: the library's ranges past
 * ASCII admit any character. A set of all characters is written whole in an unbounded repeat, where
 * nobody counts them.
 * @param isOpen whether the set is repeated without a bound
 * @returns null where no character is left
 */
function writeChars(ranges: readonly CharRange[], isOpen: boolean): string | null {
  const ascii = without(ranges, [
    [0, 0x1f],
    [0x22, 0x22],
    [0x5c, 0x5c],
    [0x7f, 0xffff],
  ])
  const others = without(ranges, [[0, 0x7f]])
  const numOthers = others.reduce((sum, [from, to]) => sum + to - from + 1, 0)
  // A set may lack line ends past ASCII and still count as all: models do not write them.
  if (isOpen && without(ALL, [...others, ...LINE_ENDS, [0, 0x7f]]).length === 0) {
    return `[^"\\\\\\0-\\x1f${writeRanges(without([[0x20, 0x7f]], [...ascii, [0x22, 0x22], [0x5c, 0x5c]]))}]`
  }
  const numAll = ranges.reduce((sum, [from, to]) => sum + to - from + 1, 0)
  const listed =
    numAll <= MAX_SMALL_SET ? without(ranges, ascii) : numOthers <= MAX_LISTED_CHARS ? others : []
  const forms = [
    ...(ascii.length === 0 ? [] : [`[${writeRanges(ascii)}]`]),
    ...charsIn(listed).map((char) => literal(JSON.stringify(char).slice(1, -1))),
  ]
  return forms.length === 0 ? null : forms.length === 1 ? forms[0]! : `(${forms.join(' | ')})`
}

const writeRanges = (ranges: readonly CharRange[]): string =>
  ranges.map(([from, to]) => `${escape(from)}-${escape(to)}`).join('')

const charsIn = (ranges: readonly CharRange[]): string[] =>
  ranges.flatMap(([from, to]) =>
    Array.from({ length: to - from + 1 }, (_, i) => String.fromCharCode(from + i)),
  )

const escape = (code: number): string => `\\u${code.toString(16).padStart(4, '0')}`

class UnreadPatternError extends Error {}

/** `^` and `$`, which do not outlast parsing. */
type Anchor = { readonly kind: 'start' } | { readonly kind: 'end' }

class PatternReader {
  readonly #source: string
  #at = 0
  #numNodes = 0

  constructor(source: string) {
    this.#source = source
  }

  read(): Pattern {
    const whole = this.#alternatives(true)
    if (this.#at < this.#source.length) throw new UnreadPatternError()
    return whole
  }

  /** @param isTop at the pattern's top level, where `^` and `$` may stand; without them any text may */
  #alternatives(isTop: boolean): Pattern {
    const of: Pattern[] = []
    do {
      const items: (Pattern | Anchor)[] = []
      while (this.#at < this.#source.length && !/[|)]/.test(this.#source[this.#at]!)) {
        items.push(this.#item())
      }
      of.push({ kind: 'sequence', of: isTop ? anchored(items) : unanchored(items) })
    } while (this.#take('|'))
    return of.length === 1 ? of[0]! : { kind: 'either', of }
  }

  #item(): Pattern | Anchor {
    this.#numNodes += 1
    if (this.#numNodes > MAX_NODES) throw new UnreadPatternError()
    const atom = this.#atom()
    const times = this.#times()
    return times === null ? atom : { kind: 'repeat', of: asPattern(atom), ...times }
  }

  #atom(): Pattern | Anchor {
    const char = this.#next()
    switch (char) {
      case '^':
        return { kind: 'start' }
      case '$':
        return { kind: 'end' }
      case '.':
        return charsOf(without(ALL, LINE_ENDS))
      case '(': {
        // A group's name has no effect on what it matches.
        if (this.#take('?') && !this.#take(':') && !this.#takeName()) throw new UnreadPatternError()
        const inner = this.#alternatives(false)
        if (!this.#take(')')) throw new UnreadPatternError()
        return inner
      }
      case '[':
        return charsOf(this.#class())
      case '\\':
        return charsOf(this.#escaped(false))
      case '*':
      case '+':
      case '?':
      case ')':
        throw new UnreadPatternError()
      default:
        return charsOf(rangeOf(char.charCodeAt(0)))
    }
  }

  #times(): { min: number; max: number | null } | null {
    const [text, least, comma, most] =
      /^(?:[*+?]|\{(\d{1,4})(,?)(\d{0,4})\})/.exec(this.#source.slice(this.#at, this.#at + 12)) ??
      []
    if (text === undefined) return null
    this.#at += text.length
    // A lazy repeat matches the same texts as a greedy one.
    this.#take('?')
    if (text === '*') return { min: 0, max: null }
    if (text === '+') return { min: 1, max: null }
    if (text === '?') return { min: 0, max: 1 }
    const min = Number(least)
    const max = comma === '' ? min : most === '' ? null : Number(most)
    if (min > MAX_REPEATS || (max ?? 0) > MAX_REPEATS || min > (max ?? min)) {
      throw new UnreadPatternError()
    }
    return { min, max }
  }

  #class(): readonly CharRange[] {
    const isNegated = this.#take('^')
    const ranges: CharRange[] = []
    while (!this.#take(']')) {
      const from = this.#classChar()
      const isRange =
        this.#source[this.#at] === '-' && !']'.includes(this.#source[this.#at + 1] ?? ']')
      if (!isRange) {
        ranges.push(...from)
        continue
      }
      this.#at += 1
      const [low, high] = [single(from), single(this.#classChar())]
      if (low === null || high === null || low > high) throw new UnreadPatternError()
      ranges.push([low, high])
    }
    return isNegated ? without(ALL, ranges) : ranges
  }

  #classChar(): readonly CharRange[] {
    const char = this.#next()
    return char === '\\' ? this.#escaped(true) : rangeOf(char.charCodeAt(0))
  }

  /** Reads what follows a backslash. */
  #escaped(isInClass: boolean): readonly CharRange[] {
    const char = this.#next()
    const named = CLASSES[char.toLowerCase()]
    if (named !== undefined) return char === char.toLowerCase() ? named : without(ALL, named)
    if (char === 'x' || char === 'u') {
      const [digits] =
        (char === 'x' ? /^[\da-fA-F]{2}/ : /^[\da-fA-F]{4}/).exec(this.#source.slice(this.#at)) ??
        []
      if (digits === undefined) throw new UnreadPatternError()
      this.#at += digits.length
      return rangeOf(Number.parseInt(digits, 16))
    }
    if (isInClass && char === 'b') return rangeOf(8)
    const control = CONTROLS[char]
    if (control !== undefined) return rangeOf(control)
    if (/[\w]/.test(char)) throw new UnreadPatternError()
    return rangeOf(char.charCodeAt(0))
  }

  #takeName(): boolean {
    const [name] = /^P?<[A-Za-z_]\w*>/.exec(this.#source.slice(this.#at)) ?? []
    this.#at += name?.length ?? 0
    return name !== undefined
  }

  #next(): string {
    const char = this.#source[this.#at]
    if (char === undefined) throw new UnreadPatternError()
    this.#at += 1
    return char
  }

  #take(char: string): boolean {
    if (this.#source[this.#at] !== char) return false
    this.#at += 1
    return true
  }
}

const ANYTHING: Pattern = {
  kind: 'repeat',
  of: { kind: 'chars', ranges: without(ALL, [[0, 0x1f]]) },
  min: 0,
  max: null,
}

/** Makes a pattern that may match a part of a text into one of the whole text. */
function anchored(items: readonly (Pattern | Anchor)[]): readonly Pattern[] {
  const isStart = items[0]?.kind === 'start'
  const isEnd = items.length > (isStart ? 1 : 0) && items.at(-1)?.kind === 'end'
  const inner = unanchored(items.slice(isStart ? 1 : 0, isEnd ? -1 : undefined))
  return [...(isStart ? [] : [ANYTHING]), ...inner, ...(isEnd ? [] : [ANYTHING])]
}

const unanchored = (items: readonly (Pattern | Anchor)[]): readonly Pattern[] =>
  items.map(asPattern)

function asPattern(item: Pattern | Anchor): Pattern {
  if (item.kind === 'start' || item.kind === 'end') throw new UnreadPatternError()
  return item
}

function charsOf(ranges: readonly CharRange[]): Pattern {
  const kept = without(ranges, [[0xd800, 0xdfff]])
  if (writeChars(kept, false) === null) throw new UnreadPatternError()
  return { kind: 'chars', ranges: kept }
}

const rangeOf = (code: number): readonly CharRange[] => [[code, code]]

const single = (ranges: readonly CharRange[]): number | null =>
  ranges.length === 1 && ranges[0]![0] === ranges[0]![1] ? ranges[0]![0] : null

/** The ranges without those in `taken`, sorted and merged. */
function without(ranges: readonly CharRange[], taken: readonly CharRange[]): CharRange[] {
  const kept = taken.reduce<readonly CharRange[]>(
    (left, [from, to]) =>
      left.flatMap(([low, high]): CharRange[] => [
        ...(low < from ? [[low, Math.min(high, from - 1)] as const] : []),
        ...(high > to ? [[Math.max(low, to + 1), high] as const] : []),
      ]),
    ranges,
  )
  const merged: [number, number][] = []
  for (const [low, high] of kept.toSorted(([a], [b]) => a - b)) {
    const last = merged.at(-1)
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high)
    else merged.push([low, high])
  }
  return merged
}
