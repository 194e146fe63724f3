import type { NumberBound, NumberBounds } from './node.ts'

/** Most digits before and after the point where no bound limits them: a float64 tells so many apart. */
const MAX_DIGITS = 15
const LARGEST = '9'.repeat(MAX_DIGITS)

/** A bound on |x| as its digits before and after the point, without leading or trailing zeros. */
type Digits = { readonly whole: string; readonly fraction: string; readonly exclusive: boolean }

const ZERO: Digits = { whole: '0', fraction: '', exclusive: false }

/** Numbers as JSON writes them, of at most 15 digits on either side and a short exponent. */
const FREE_NUMBER =
  `"-"? ("0" | [1-9] [0-9]{0,${MAX_DIGITS - 1}}) ("." [0-9]{1,${MAX_DIGITS}})? ` +
  '([eE] [+-]? [0-9]{1,2})?'

/**
 * EBNF of the numbers within bounds, without exponents.
 * @returns null where no number is within them
 */
export function numberRange(kind: 'integer' | 'number', { min, max }: NumberBounds): string | null {
  if (kind === 'number' && min === null && max === null) return FREE_NUMBER
  const forms: string[] = []
  // Below zero the lower bound limits the magnitude from above, and the upper one from below.
  if (min === null || min.value < 0) {
    const least = max !== null && max.value < 0 ? digitsOf(max) : null
    const isZeroOut = max !== null && max.value === 0 && max.exclusive
    const form = magnitudes(kind, least ?? { ...ZERO, exclusive: isZeroOut }, min && digitsOf(min))
    if (form !== null) forms.push(`"-" (${form})`)
  }
  if (max === null || max.value >= 0) {
    const least = min !== null && min.value >= 0 ? digitsOf(min) : ZERO
    const form = magnitudes(kind, least, max && digitsOf(max))
    if (form !== null) forms.push(form)
  }
  return forms.length === 0 ? null : forms.join(' | ')
}

function digitsOf({ value, exclusive }: NumberBound): Digits {
  const [whole = '0', fraction = ''] = String(Math.abs(value)).split('.')
  return { whole, fraction, exclusive }
}

/** Numbers from `low` to `high`; neither is negative. */
function magnitudes(kind: 'integer' | 'number', low: Digits, high: Digits | null): string | null {
  return kind === 'integer' ? integers(low, high) : decimals(low, high)
}

function integers(low: Digits, high: Digits | null): string | null {
  const isAbove = low.exclusive || low.fraction !== ''
  const from = BigInt(low.whole) + (isAbove ? 1n : 0n)
  const isBelow = high !== null && high.exclusive && high.fraction === ''
  const to = BigInt(high?.whole ?? LARGEST) - (isBelow ? 1n : 0n)
  return wholes(from, to)
}

function decimals(low: Digits, high: Digits | null): string | null {
  const top = high ?? { whole: LARGEST, fraction: '9', exclusive: false }
  const [from, to] = [BigInt(low.whole), BigInt(top.whole)]
  const forms: (string | null)[] = []
  const at = (whole: bigint, lower: Digits | null, upper: Digits | null): void => {
    const tails = fractions(lower, upper)
    forms.push(tails === null ? null : `"${whole}" (${tails})`)
  }
  if (from > to) return null
  if (from === to) at(from, low, top)
  else {
    at(from, low, null)
    const between = wholes(from + 1n, to - 1n)
    if (between !== null) forms.push(`(${between}) ("." [0-9]{1,${MAX_DIGITS}})?`)
    at(to, null, top)
  }
  const kept = forms.filter((form) => form !== null)
  return kept.length === 0 ? null : kept.join(' | ')
}

/** EBNF of what follows the whole part: nothing, or a point and digits. */
function fractions(low: Digits | null, high: Digits | null): string | null {
  const forms: string[] = []
  if (mayEnd(low, high)) forms.push('""')
  const digits = fractionDigits(low, high)
  if (digits !== null) forms.push(`"." (${digits})`)
  return forms.length === 0 ? null : forms.join(' | ')
}

/** Whether a number may end after its digits so far; the bounds hold their own digits still to come. */
const mayEnd = (low: Digits | null, high: Digits | null): boolean =>
  (low === null || (low.fraction === '' && !low.exclusive)) &&
  (high === null || high.fraction !== '' || !high.exclusive)

/** One or more digits within the bounds, which hold the digits still to come. */
function fractionDigits(low: Digits | null, high: Digits | null): string | null {
  if (low?.fraction === '' && !low.exclusive) return fractionDigits(null, high)
  if (low === null && high === null) return `[0-9]{1,${MAX_DIGITS}}`
  if (high?.fraction === '') return high.exclusive || low !== null ? null : `"0"{1,${MAX_DIGITS}}`
  if (low?.fraction === '') {
    // The number must exceed its digits so far, so some digit to come is not 0.
    const above = `"0"{0,${MAX_DIGITS}} [1-9] [0-9]{0,${MAX_DIGITS}}`
    if (high === null) return above
  }
  const first = Number(low?.fraction[0] ?? '0')
  const last = Number(high?.fraction[0] ?? '9')
  const forms: string[] = []
  for (let digit = first; digit <= last; digit++) {
    const lower = low !== null && digit === first ? rest(low) : null
    const upper = high !== null && digit === last ? rest(high) : null
    const tails = mayEnd(lower, upper) ? ['""'] : []
    const more = fractionDigits(lower, upper)
    if (more !== null) tails.push(more)
    if (tails.length > 0) forms.push(`"${digit}" (${tails.join(' | ')})`)
  }
  return forms.length === 0 ? null : forms.join(' | ')
}

const rest = (digits: Digits): Digits => ({ ...digits, fraction: digits.fraction.slice(1) })

/** EBNF of the integers from `from` to `to`, neither negative; null where `from` is over `to`. */
function wholes(from: bigint, to: bigint): string | null {
  if (from > to) return null
  const forms: string[] = []
  let low = from
  while (low <= to) {
    const { length } = String(low)
    const largest = BigInt('9'.repeat(length))
    forms.push(ofOneLength(String(low), String(largest < to ? largest : to)))
    low = largest + 1n
  }
  return forms.join(' | ')
}

/** EBNF of the digit strings from `low` to `high`, which have the same length. */
function ofOneLength(low: string, high: string): string {
  if (low === '') return '""'
  const [first, last] = [Number(low[0]), Number(high[0])]
  const tail = low.length - 1
  if (first === last) return `"${first}" (${ofOneLength(low.slice(1), high.slice(1))})`
  const forms: string[] = []
  const isLowWhole = /^0*$/.test(low.slice(1))
  const isHighWhole = /^9*$/.test(high.slice(1))
  const from = isLowWhole ? first : first + 1
  const to = isHighWhole ? last : last - 1
  if (!isLowWhole) forms.push(`"${first}" (${ofOneLength(low.slice(1), '9'.repeat(tail))})`)
  if (from <= to) forms.push(`[${from}-${to}]${tail > 0 ? ` [0-9]{${tail}}` : ''}`)
  if (!isHighWhole) forms.push(`"${last}" (${ofOneLength('0'.repeat(tail), high.slice(1))})`)
  return forms.join(' | ')
}
