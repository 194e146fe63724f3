import type { Result } from '../../../adapters/result.ts'
import { SearchOutdated } from '../faults.ts'

/**
 * A search's state as the job's storage has it; where it begins, before there is any.
 * @throws {SearchOutdated} bytes that another release wrote
 * @throws {Error} bytes that no step of this job can have written
 */
export function readSearchState<State>(
  search: { readonly start: () => State },
  bytes: Uint8Array | null,
  decode: (bytes: Uint8Array) => Result<State, { readonly reason: string }>,
): State {
  if (bytes === null) return search.start()
  const state = decode(bytes)
  if (!state.ok && state.error.reason === 'version') throw new SearchOutdated()
  if (!state.ok) throw new Error(`own search state is unreadable: ${state.error.reason}`)
  return state.value
}
