/** Reads a runner's answer within a limit, and names what is wrong with it. */
import { z } from 'zod'
import { joinChunks } from '../bytes/join-chunks.ts'
import { RunnerCallFailure } from './runner-failure.ts'

/**
 * Reads a whole body.
 * @throws {RunnerCallFailure} `oversized` or `died`
 */
export async function readBody(response: Response, maxBytes: number): Promise<Uint8Array> {
  const tooLong = () =>
    new RunnerCallFailure('oversized', `runner's answer has more than ${maxBytes} bytes`)
  if (Number(response.headers.get('content-length') ?? 0) > maxBytes) {
    await response.body?.cancel().catch(() => undefined)
    throw tooLong()
  }
  const chunks: Uint8Array[] = []
  let numBytes = 0
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      numBytes += chunk.length
      // Leaving the loop cancels the body.
      if (numBytes > maxBytes) throw tooLong()
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof RunnerCallFailure) throw error
    throw new RunnerCallFailure('died', `runner's answer ended early: ${String(error)}`, error)
  }
  return joinChunks(chunks)
}

/** @throws {RunnerCallFailure} */
export async function readJson<T>(
  response: Response,
  schema: z.ZodType<T>,
  maxBytes: number,
): Promise<T> {
  return parseAnswer(new TextDecoder().decode(await readBody(response, maxBytes)), schema)
}

/**
 * Parses a JSON text of a runner.
 * @throws {RunnerCallFailure} `malformed` or `not_finite`
 */
export function parseAnswer<T>(text: string, schema: z.ZodType<T>): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new RunnerCallFailure(
      hasBareNumberWord(text) ? 'not_finite' : 'malformed',
      `runner's answer is not JSON: ${String(error)}`,
      error,
    )
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new RunnerCallFailure(
    parsed.error.issues.some((issue) => isNotFinite(issue, value)) ? 'not_finite' : 'malformed',
    `runner's answer is malformed: ${z.prettifyError(parsed.error)}`,
  )
}

/** Python's `json` and others write NaN and infinity as bare words, which JSON does not have. */
const hasBareNumberWord = (text: string): boolean => /[:,[]\s*-?(?:NaN|Infinity)\b/.test(text)

/**
 * Whether a field should have a number, and has what remains of NaN or of an infinite number in
 * JSON: null as JavaScript writes it, or a literal past the range of float64.
 */
function isNotFinite(issue: z.core.$ZodIssue, value: unknown): boolean {
  if (issue.code !== 'invalid_type' || !['number', 'int'].includes(issue.expected)) return false
  const found = issue.path.reduce<unknown>(
    (at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key],
    value,
  )
  return found === null || found === Infinity || found === -Infinity
}
