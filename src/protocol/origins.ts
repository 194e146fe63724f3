/** Which web pages may call from a browser, and the headers that tell the browser. */

/** `ALLOWED_ORIGINS=*` allows every page. Then only the key protects the gateway. */
const ANY = '*'

/**
 * Reads a comma-separated list of origins as browsers write them, or `*`.
 * @throws {Error} naming an entry that is not an origin
 */
export function readOrigins(text: string): readonly string[] {
  const origins = text
    .split(',')
    .map((origin) => origin.trim().replace(/\/$/, '').toLowerCase())
    .filter((origin) => origin !== '')
  for (const origin of origins) {
    if (origin === ANY || /^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@]+$/.test(origin)) continue
    throw new Error(`"${origin}" is not an origin; write https://app.example, or * for any`)
  }
  return origins
}

/**
 * @param origin the request's `Origin`
 * @param host the request's `Host`: pages of the gateway's own origin may always call it
 * @returns the value of `Access-Control-Allow-Origin`; null for a page that may not call
 */
export function allowedOrigin(
  origin: string | undefined,
  host: string | undefined,
  allowed: readonly string[],
): string | null {
  if (origin === undefined || origin === '') return null
  if (allowed.includes(ANY)) return ANY
  const isOwn = origin === `http://${host}` || origin === `https://${host}`
  return isOwn || allowed.includes(origin.toLowerCase()) ? origin : null
}

/** A page may read all headers of an answer, with the proof among them. */
export const EXPOSED_HEADERS = '*'

/** The headers that let a page read an answer. */
export const originHeaders = (allowOrigin: string | null): Record<string, string> => ({
  ...(allowOrigin === null
    ? {}
    : {
        'access-control-allow-origin': allowOrigin,
        'access-control-expose-headers': EXPOSED_HEADERS,
      }),
  ...(allowOrigin === ANY ? {} : { vary: 'Origin' }),
})
