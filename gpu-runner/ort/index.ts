import type { Backend } from './backend.ts'
import { openCApi } from './c-api.ts'
import { openJsBinding } from './js-binding.ts'

export type { Backend, Binding, Session, SessionOptions, Tensor } from './backend.ts'

/**
 * The C API where it loads, else the JS binding.
 * @param force take this one and throw where it cannot be had
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
