import type { Backend } from './backend.ts'
import { openCApi } from './c-api.ts'
import { openJsBinding } from './js-binding.ts'

export type { Backend, Binding, Session, SessionOptions, Tensor } from './backend.ts'

/**
 * Opens the C API, or the JS binding where the C API does not load.
 * @param force the only backend to take; if it does not load, this throws
 * @returns the backend, and why the faster one is not in use (null where it is)
 */
export function openBackend(force?: 'c-api' | 'js-binding'): {
  readonly backend: Backend
  readonly fallbackReason: string | null
} {
  if (force === 'js-binding') return { backend: openJsBinding(), fallbackReason: 'asked for' }
  try {
    return { backend: openCApi(), fallbackReason: null }
  } catch (error) {
    if (force === 'c-api') throw error
    return { backend: openJsBinding(), fallbackReason: (error as Error).message }
  }
}
