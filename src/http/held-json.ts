import type { Urgency } from '../dispatch/urgency.ts'

/**
 * An answer that takes longer than this begins before it is known. Until then a failure still gets
 * its own status. From then on the gateway notices a client that has gone, because in workerd only
 * a write that fails shows that.
 */
const HOLD_MS = 5_000
/** An answer with a deadline may wait this long before it begins. */
const MAX_HOLD_MS = 60_000
/** How long after a deadline the runner's error may take to get here. */
const GRACE_MS = 1_000
const KEEPALIVE_MS = 2_000
/** JSON may begin with any amount of white space. */
const JSON_KEEPALIVE = new TextEncoder().encode(' ')

export type HeldAnswer<T> =
  | { readonly kind: 'known'; readonly value: T }
  | { readonly kind: 'streamed'; readonly body: ReadableStream<Uint8Array> }

/**
 * Waits for an answer. If that takes long, begins the body with white space. If the answer then
 * fails, the connection breaks, so that no client takes the body for an answer.
 * @param caller aborted when the client goes away
 * @throws what the answer throws within `holdMs`
 */
export async function holdJson<T>(
  answer: Promise<T>,
  caller: AbortController,
  holdMs: number = HOLD_MS,
): Promise<HeldAnswer<T>> {
  const timer: { id?: ReturnType<typeof setTimeout> } = {}
  const held = new Promise<null>((resolve) => {
    timer.id = setTimeout(() => {
      resolve(null)
    }, holdMs)
  })
  const known = answer.then((value) => ({ kind: 'known' as const, value }))
  try {
    return (await Promise.race([known, held])) ?? { kind: 'streamed', body: begin(known, caller) }
  } finally {
    if (timer.id !== undefined) clearTimeout(timer.id)
  }
}

export function sendHeld(held: HeldAnswer<unknown>, headers: Record<string, string>): Response {
  if (held.kind === 'known') return Response.json(held.value, { headers })
  return new Response(held.body, { headers: { ...headers, 'content-type': 'application/json' } })
}

/** A controller that is also aborted by the request's own signal, which not every host fires. */
export function abortWith(signal: AbortSignal): AbortController {
  const controller = new AbortController()
  signal.addEventListener('abort', () => {
    controller.abort()
  })
  return controller
}

function begin(
  answer: Promise<{ readonly value: unknown }>,
  caller: AbortController,
): ReadableStream<Uint8Array> {
  let keepalive: ReturnType<typeof setInterval> | null = null
  const stop = () => {
    if (keepalive !== null) clearInterval(keepalive)
  }
  return new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(JSON_KEEPALIVE)
      keepalive = setInterval(() => {
        controller.enqueue(JSON_KEEPALIVE)
      }, KEEPALIVE_MS)
      // Not awaited, because the stream must be read while the answer is computed.
      void answer.then(
        ({ value }) => {
          stop()
          if (caller.signal.aborted) return
          controller.enqueue(new TextEncoder().encode(JSON.stringify(value)))
          controller.close()
        },
        (error: unknown) => {
          stop()
          if (!caller.signal.aborted) controller.error(error)
        },
      )
    },
    cancel() {
      stop()
      caller.abort()
    },
  })
}

/** How long to hold an answer that comes whole, so that a missed deadline still gets its status. */
export function holdMsOf({ deadlineAtMs }: Pick<Urgency, 'deadlineAtMs'>, nowMs: number): number {
  if (deadlineAtMs === undefined) return HOLD_MS
  return Math.max(HOLD_MS, Math.min(deadlineAtMs - nowMs + GRACE_MS, MAX_HOLD_MS))
}
