/** The name of a form's part, and the name of its file. */
export type Disposition = { readonly name: string; readonly filename: string | null }

/** `; name=value`, where the value is a token or quoted. A quoted value may hold any character. */
const PARAMETER =
  /;\s*(?<key>[^\s=;"]+)\s*=\s*(?:"(?<quoted>(?:[^"\\]|\\.)*)"|(?<token>[^\s;"]*))\s*/gsu
/** A backslash before any other character stands for itself, since browsers do not escape it. */
const ESCAPED = /\\(["\\])/g

/**
 * Reads a part's `content-disposition`, already decoded as UTF-8. A file name stays as the client
 * sent it, in any script and normal form.
 * Source: RFC 7578, 4.2. Older clients send the `filename*` of RFC 5987.
 * @returns null unless it is the disposition of a form's part
 * @throws {URIError} the percent escapes of `filename*` are malformed
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
