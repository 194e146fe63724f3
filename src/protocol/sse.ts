/** Frames of `text/event-stream` in the form that OpenAI's clients read. */
export const SSE_DONE = 'data: [DONE]\n\n'
/** A comment. It is no event, but writing it fails once the client has gone. */
export const SSE_KEEPALIVE = ': keepalive\n\n'

/** JSON contains no line breaks, so it fits one `data:` line. */
export const encodeSse = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`

/** A frame that also names the event's type. */
export const encodeTypedSse = (value: { readonly type: string }): string =>
  `event: ${value.type}\n${encodeSse(value)}`
