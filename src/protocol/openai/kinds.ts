/**
 * Words the error of an object whose `type` no member of a union has. Other faults keep their own
 * messages.
 */
export const ofUnknownKind =
  (say: (given: unknown) => string) =>
  (issue: { readonly code?: string; readonly input?: unknown }): string | null =>
    issue.code === 'invalid_union' ? say(issue.input) : null
