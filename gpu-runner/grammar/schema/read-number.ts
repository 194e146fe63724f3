import type { Keywords } from './merge-schemas.ts'
import { SchemaError, type NumberBound, type NumberBounds, type SchemaNode } from './node.ts'
import type { SchemaPlace } from './schema-place.ts'

/** Up to it every integer is exact, and every digit is written out. A bound beyond it adds nothing. */
const MAX_ABS_NUMBER = 1e15

export function readNumber(type: 'integer' | 'number', place: SchemaPlace): SchemaNode {
  const { keywords, at } = place
  const { multipleOf: step } = keywords
  if (step !== undefined && (typeof step !== 'number' || step <= 0)) {
    throw new SchemaError(`"multipleOf" must be a number over 0, at ${at}`)
  }
  // Every integer is a multiple of 1, 0.5, 0.25 and so on.
  const isOfIntegers = step !== undefined && Number.isInteger(1 / step)
  if (step !== undefined && !(isOfIntegers && (type === 'integer' || step === 1))) {
    place.leaveOut('multipleOf')
  }
  return { kind: step === 1 ? 'integer' : type, ...readBounds(keywords, at) }
}

function readBounds(keywords: Keywords, at: string): NumberBounds {
  const read = (name: string): number | null => {
    const value = keywords[name]
    if (value === undefined) return null
    if (typeof value !== 'number') throw new SchemaError(`"${name}" must be a number, at ${at}`)
    const isWide = name.toLowerCase().includes('min')
      ? value <= -MAX_ABS_NUMBER
      : value >= MAX_ABS_NUMBER
    if (isWide) return null
    if (Math.abs(value) > MAX_ABS_NUMBER) {
      throw new SchemaError(`"${name}" must be a number within ±${MAX_ABS_NUMBER}, at ${at}`)
    }
    if (/e/.test(String(value))) {
      throw new SchemaError(`"${name}" is too small to be told from 0, at ${at}`)
    }
    return value
  }
  const bound = (inclusive: string, exclusive: string, sign: 1 | -1): NumberBound | null => {
    const [including, excluding] = [read(inclusive), read(exclusive)]
    if (excluding !== null && (including === null || (excluding - including) * sign >= 0)) {
      return { value: excluding, exclusive: true }
    }
    return including === null ? null : { value: including, exclusive: false }
  }
  return {
    min: bound('minimum', 'exclusiveMinimum', 1),
    max: bound('maximum', 'exclusiveMaximum', -1),
  }
}
