/** Which web pages may call from a browser, and the headers that tell it so. */

/** Any page: `ALLOWED_ORIGINS=*`. The key alone then decides. */
const ANY = '*'

/**
 * Reads a comma-separated list of origins as browsers write them, or `*`.
 * @throws {Error} naming an entry that is no origin
 */
export function readOrigins(text: string): readonly string[] {
  const origins = text
    .split(',')
    .map((origin) => origin.trim().replace(/\/$/, '').toLowerCase())
    .filter((origin) => origin !== '')
  for (const origin of origins) {
    if (origin === ANY || /^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@]+$/.test(origin)) continue
    throw new Error(`"${origin}" is no origin; write it as https://app.example, or * for any`)
  }
  return origins
}

/**
 * @param origin the request's `Origin`
 * @param host its `Host`: pages that the gateway itself serves may always call it
 * @returns what `Access-Control-Allow-Origin` says; null for a page that may not call
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

/** What a page may read of an answer besides its body: all headers, the proof among them. */
export const EXPOSED_HEADERS = '*'

/** Headers by which a page may read an answer. */
export const originHeaders = (allowOrigin: string | null): Record<string, string> => ({
  ...(allowOrigin === null
    ? {}
    : {
        'access-control-allow-origin': allowOrigin,
        'access-control-expose-headers': EXPOSED_HEADERS,
      }),
  ...(allowOrigin === ANY ? {} : { vary: 'Origin' }),
})
