import type { Result } from '../../../adapters/result.ts'
import { SearchOutdated } from '../faults.ts'

/**
 * Decodes a search's stored state; before any is stored, gives the state in which the search starts.
 * @throws {SearchOutdated} another release wrote the bytes
 * @throws {Error} the bytes are damaged
 */
export function readSearchState<State>(
  search: { readonly start: () => State },
  bytes: Uint8Array | null,
  decode: (bytes: Uint8Array) => Result<State, { readonly reason: string }>,
): State {
  if (bytes === null) return search.start()
  const state = decode(bytes)
  if (!state.ok && state.error.reason === 'version') throw new SearchOutdated()
  if (!state.ok) throw new Error(`the search's own state is unreadable: ${state.error.reason}`)
  return state.value
}
