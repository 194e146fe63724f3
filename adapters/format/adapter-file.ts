/** The adapter file, as the gateway, the jobs and the runner use it. */
export { decodeAdapter } from './decode.ts'
export { encodeAdapter } from './encode.ts'
export { MAX_ADAPTER_BYTES } from './limits.ts'
export type {
  AdapterDtype,
  AdapterFile,
  AdapterFileError,
  AdapterFileReason,
  AdapterFileResult,
  AdapterScope,
} from './schema.ts'

/** SHA-256 of bytes in lower-case hex: an adapter's name. */
export async function digestOf(bytes: Uint8Array): Promise<string> {
  // Copied into a buffer of its own: a SharedArrayBuffer's view is no BufferSource.
  const hash = await globalThis.crypto.subtle.digest('SHA-256', new Uint8Array(bytes))
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
