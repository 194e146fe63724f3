import { matchesPattern } from './match-pattern.ts'
import { SchemaError, STRING_FORMATS, type SchemaNode, type StringFormat } from './node.ts'
import { readPattern, withLength, type Pattern } from './pattern.ts'
import { countUpTo, type SchemaPlace } from './schema-place.ts'
import { FORMATS, STRAY_TEXTS } from './string-formats.ts'

const MAX_LENGTH = 10_000
/** Formats that say what a text is for and bar no text. */
const SPEAKING_FORMATS = new Set(['binary', 'password', 'path', 'file-path', 'directory-path'])

export function readString(place: SchemaPlace): SchemaNode {
  const { keywords, at } = place
  const minLength = countUpTo(place, 'minLength', MAX_LENGTH) ?? 0
  const maxLength = countUpTo(place, 'maxLength', MAX_LENGTH)
  if (minLength > (maxLength ?? Infinity)) {
    throw new SchemaError(`"minLength" is over "maxLength", at ${at}`)
  }
  const { pattern, format } = keywords
  if (pattern !== undefined && typeof pattern !== 'string') {
    throw new SchemaError(`"pattern" must be a text, at ${at}`)
  }
  const isKnown = isStringFormat(format)
  const read = pattern === undefined ? null : readPattern(pattern)
  if (pattern !== undefined && read === null && !isKnown) place.leaveOut('pattern')
  // Helper libraries write both. A pattern that admits all texts of the format adds nothing to it.
  if (read !== null && !(isKnown && admitsAll(read, format))) {
    if (isKnown && STRAY_TEXTS.some((text) => matchesPattern(read, text))) {
      place.leaveOut('format', `"format" beside another "pattern" is not supported`)
    }
    const sized = withLength(read, minLength, maxLength)
    if (sized === null) {
      const name = maxLength === null ? 'minLength' : 'maxLength'
      place.leaveOut(name, `"${name}" beside "pattern" is not supported`)
    }
    return { kind: 'pattern', pattern: sized ?? read }
  }
  if (isKnown) {
    const [shortest, longest] = FORMATS[format].lengths
    if (minLength > shortest || longest > (maxLength ?? Infinity)) {
      const name = minLength > shortest ? 'minLength' : 'maxLength'
      place.leaveOut(name, `"${name}" beside "format" ${format} is not supported`)
    }
    return { kind: 'format', format }
  }
  if (format !== undefined && !SPEAKING_FORMATS.has(format as string)) {
    const known = STRING_FORMATS.join(', ')
    place.leaveOut('format', `"format" ${JSON.stringify(format)} is not supported (${known} are)`)
  }
  return { kind: 'string', minLength, maxLength }
}

/** Whether a pattern admits the texts of a format, as far as the format's samples tell. */
const admitsAll = (pattern: Pattern, format: StringFormat): boolean =>
  FORMATS[format].samples.every((text) => matchesPattern(pattern, text))

const isStringFormat = (format: unknown): format is StringFormat =>
  (STRING_FORMATS as readonly unknown[]).includes(format)
