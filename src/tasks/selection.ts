import { fail, ok, type Result } from '../../adapters/result.ts'
import { MAX_ABS_WEIGHT, MAX_TERMS } from '../protocol/runner.ts'

export const TASK_NAME_PATTERN = /^[a-z0-9][a-z0-9-]{0,63}$/
/** Comparisons use this name for the base model, so no task may have it. */
export const BASE_NAME = 'base'
const GENERATED_ALPHABET = 'abcdefghijklmnopqrstuvwxyz012345'
const GENERATED_CHARS = 8

/**
 * A name for a task that the request does not name. It ends, like OpenAI's, in eight random
 * characters.
 */
export function makeTaskName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(GENERATED_CHARS))
  // The alphabet's length is a power of two, so all characters are equally likely.
  const chars = Array.from(bytes, (byte) => GENERATED_ALPHABET[byte % GENERATED_ALPHABET.length])
  return `task-${chars.join('')}`
}

/** MAX_TERMS terms are always shorter. */
const MAX_SELECTION_CHARS = 2048

export type SelectionTerm = {
  readonly name: string
  /** The version's number, or `sha256:` and the beginning of its digest; null means the live version. */
  readonly version: number | `sha256:${string}` | null
  readonly weight: number
}

export type SelectionError = { readonly reason: 'syntax' | 'too_long'; readonly message: string }

/**
 * Reads `NAME`, `NAME@VERSION`, `NAME@sha256:DIGEST`, or a sum such as `a*0.5+b@2-c*0.2`.
 *
 * A name may hold `-`, so the longest name wins: `a-b` is one task. To subtract after a bare name,
 * put a space before the sign or say the weight: `a - b`, `a*1-b`, `a + b*-1`.
 */
export function parseSelection(text: string): Result<readonly SelectionTerm[], SelectionError> {
  if (text.length > MAX_SELECTION_CHARS) {
    return fail({ reason: 'too_long', message: 'the selection is too long' })
  }
  const token =
    /\s*(?<sign>[+-])?\s*(?<name>[a-z0-9][a-z0-9-]*)(?:@(?<version>[1-9]\d{0,8}|sha256:[0-9a-f]{12,64}(?![0-9a-zA-Z])))?(?:\s*\*\s*(?<weight>[+-]?\d+(?:\.\d+)?))?\s*/y
  const terms: SelectionTerm[] = []
  let at = 0
  while (at < text.length) {
    token.lastIndex = at
    const groups = token.exec(text)?.groups
    if (groups === undefined || (terms.length === 0) !== (groups.sign === undefined)) {
      return syntax(text, at)
    }
    const { name = '', version, weight = '1', sign } = groups
    if (!TASK_NAME_PATTERN.test(name)) {
      return fail({ reason: 'syntax', message: `the task name "${name}" is too long` })
    }
    const value = Number(weight) * (sign === '-' ? -1 : 1)
    if (Math.abs(value) > MAX_ABS_WEIGHT) {
      return fail({ reason: 'syntax', message: `weight ${value} is beyond ±${MAX_ABS_WEIGHT}` })
    }
    // `+ 0` turns -0 into 0, which is printed without a sign.
    terms.push({ name, version: readVersion(version), weight: value + 0 })
    at = token.lastIndex
  }
  if (terms.length === 0) return fail({ reason: 'syntax', message: 'the selection is empty' })
  if (terms.length > MAX_TERMS) {
    return fail({ reason: 'too_long', message: `a sum holds at most ${MAX_TERMS} terms` })
  }
  return ok(terms)
}

function readVersion(text: string | undefined): SelectionTerm['version'] {
  if (text === undefined) return null
  return isDigestRef(text) ? text : Number(text)
}

export const isDigestRef = (text: unknown): text is `sha256:${string}` =>
  typeof text === 'string' && text.startsWith('sha256:')

const syntax = (text: string, at: number) =>
  fail({
    reason: 'syntax' as const,
    message:
      `"${text}" is not a selection (at character ${at + 1}); ` +
      'write NAME, NAME@VERSION, NAME@sha256: with at least 12 characters of a digest, or a sum ' +
      'such as a*0.5+b@2-c*0.2',
  })

/** The canonical text of a selection: without spaces, and without a weight of 1. */
export function formatSelection(terms: readonly SelectionTerm[]): string {
  return terms
    .map(({ name, version, weight }, i) => {
      const head = version === null ? name : `${name}@${version}`
      // A `-` after a bare name would be read as part of the name, so the sign goes into the weight.
      const body = weight === 1 ? head : `${head}*${weight}`
      return i === 0 ? body : `+${body}`
    })
    .join('')
}
