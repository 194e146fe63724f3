import { z } from 'zod'
import type { ServiceTier } from '../runner.ts'

/** OpenAI's tiers, but for `scale`, which is a contract for capacity that nobody can have here. */
export const serviceTierField = z
  .enum(['auto', 'default', 'flex', 'priority', 'fast'], {
    error: 'must be one of auto, default, flex, priority, fast',
  })
  .optional()

/**
 * The tier that serves a request; undefined where it names none, and then the answer names none
 * either. `fast` is OpenAI's other word for `priority`, and answers say `priority`.
 */
export function serviceTierOf(wanted: z.output<typeof serviceTierField>): ServiceTier | undefined {
  if (wanted === 'auto') return 'default'
  return wanted === 'fast' ? 'priority' : wanted
}
