import type { Urgency } from '../dispatch/urgency.ts'

/**
 * An answer that takes longer than this is begun before it is known. Until then a failure still
 * gets its status; from then on a client that has gone away is noticed, which workerd does only by
 * a write that fails.
 */
const HOLD_MS = 5_000
/** An answer with a deadline keeps its status open this long at most. */
const MAX_HOLD_MS = 60_000
/** For the runner's word that the deadline has passed to get here. */
const GRACE_MS = 1_000
const KEEPALIVE_MS = 2_000
/** JSON may begin with any amount of white space. */
const JSON_KEEPALIVE = new TextEncoder().encode(' ')

export type HeldAnswer<T> =
  | { readonly kind: 'known'; readonly value: T }
  | { readonly kind: 'streamed'; readonly body: ReadableStream<Uint8Array> }

/**
 * Waits for an answer, and begins it with white space when that takes long. An answer that fails
 * after its beginning ends in a broken connection, never in a body that could be taken for one.
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

/** A controller that also ends when the request's own signal does (which not every host fires). */
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
      // Not awaited: the stream is read while the answer is waited for.
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

/** How long an unstreamed answer is held, so that a deadline that passes still gets its status. */
export function holdMsOf({ deadlineAtMs }: Pick<Urgency, 'deadlineAtMs'>, nowMs: number): number {
  if (deadlineAtMs === undefined) return HOLD_MS
  return Math.max(HOLD_MS, Math.min(deadlineAtMs - nowMs + GRACE_MS, MAX_HOLD_MS))
}
