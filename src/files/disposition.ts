/** What a part of a form is called, and its file. */
export type Disposition = { readonly name: string; readonly filename: string | null }

/** `; name=value`, where a value is quoted or a token; quoted ones hold any characters. */
const PARAMETER =
  /;\s*(?<key>[^\s=;"]+)\s*=\s*(?:"(?<quoted>(?:[^"\\]|\\.)*)"|(?<token>[^\s;"]*))\s*/gsu
/** Browsers escape neither; a backslash before anything else is one. */
const ESCAPED = /\\(["\\])/g

/**
 * Reads a part's `content-disposition`, already decoded as UTF-8. File names are kept as they were
 * sent, in whatever script and normal form.
 * Source: RFC 7578, 4.2; `filename*` of RFC 5987 is what older clients send.
 * @returns null where it is not a form's
 * @throws {URIError} a `filename*` whose percent escapes are none
 */
export function parseDisposition(header: string): Disposition | null {
  const [type = ''] = header.split(';', 1)
  if (type.trim().toLowerCase() !== 'form-data') return null
  const parameters = new Map<string, string>()
  let at = type.length
  for (const match of header.slice(at).matchAll(PARAMETER)) {
    if (match.index !== at - type.length) return null
    at += match[0].length
    const { key = '', quoted, token = '' } = match.groups ?? {}
    parameters.set(key.toLowerCase(), quoted?.replace(ESCAPED, '$1') ?? token)
  }
  const name = parameters.get('name')
  if (at !== header.length || name === undefined) return null
  return { name, filename: decodeExtended(parameters) ?? parameters.get('filename') ?? null }
}

function decodeExtended(parameters: ReadonlyMap<string, string>): string | null {
  const value = /^utf-8'[^']*'(?<text>.*)$/isu.exec(parameters.get('filename*') ?? '')
  const text = value?.groups?.['text']
  return text === undefined ? null : decodeURIComponent(text)
}
