import type { KeyOwner, KeyRow } from '../../db/keys.ts'
import { sha256Hex } from '../../storage/digest.ts'
import { hexId } from '../../protocol/openai/hex-id.ts'

/** 192 bits: beyond guessing. */
const KEY_BYTES = 24
const KEY_PREFIX = 'sk-arcana-'
/** Shown of a key: enough to know it by, and 168 of its bits stay secret. */
const SHOWN_CHARS = KEY_PREFIX.length + 4

/** A new key, told once, and the row that is kept of it. */
export async function createKey(
  owner: KeyOwner,
  settings: Pick<KeyRow, 'name' | 'scopes' | 'expiresAtMs'>,
  nowMs: number,
): Promise<{ readonly value: string; readonly row: KeyRow }> {
  const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES))
  const value = `${KEY_PREFIX}${toBase64Url(bytes)}`
  const row: KeyRow = {
    hash: await sha256Hex(new TextEncoder().encode(value)),
    id: `key_${hexId()}`,
    ...owner,
    ...settings,
    prefix: value.slice(0, SHOWN_CHARS),
    createdAtMs: nowMs,
    lastUsedAtMs: null,
    revokedAtMs: null,
    limits: {},
  }
  return { value, row }
}

const toBase64Url = (bytes: Uint8Array): string =>
  btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '')
