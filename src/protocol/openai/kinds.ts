/**
 * Says what is wrong with an object whose `type` is none of a union's; null leaves other faults
 * their own words.
 */
export const ofUnknownKind =
  (say: (given: unknown) => string) =>
  (issue: { readonly code?: string; readonly input?: unknown }): string | null =>
    issue.code === 'invalid_union' ? say(issue.input) : null
