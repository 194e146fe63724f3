/** What pure code returns if outside input can make it fail. Bugs throw; expected failures return. */
export type Result<T, E extends { readonly reason: string }> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: E }

export const ok = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value })

export const fail = <E extends { readonly reason: string }>(
  error: E,
): { readonly ok: false; readonly error: E } => ({ ok: false, error })
