/** The public interface of the adapter file format. */
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

/** SHA-256 of an adapter file in lower-case hex; it names the adapter. */
export async function digestOf(bytes: Uint8Array): Promise<string> {
  // Copied, because crypto.subtle refuses a view of a SharedArrayBuffer.
  const hash = await globalThis.crypto.subtle.digest('SHA-256', new Uint8Array(bytes))
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
