/** Frames of `text/event-stream`, as OpenAI's clients read them. */
export const SSE_DONE = 'data: [DONE]\n\n'
/** A comment: no event for the client, but proof to both ends that the other is there. */
export const SSE_KEEPALIVE = ': keepalive\n\n'

/** JSON has no raw line breaks, so one `data:` line holds it. */
export const encodeSse = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`

/** An event that is also named by its type. */
export const encodeTypedSse = (value: { readonly type: string }): string =>
  `event: ${value.type}\n${encodeSse(value)}`
