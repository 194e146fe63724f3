import { z } from 'zod'
import type { ServiceTier } from '../runner.ts'

/** OpenAI's tiers without `scale`, a contract for capacity that this gateway does not offer. */
export const serviceTierField = z
  .enum(['auto', 'default', 'flex', 'priority', 'fast'], {
    error: 'must be one of auto, default, flex, priority, fast',
  })
  .optional()

/**
 * The runner's tier for the one that a request names. A request that names none gets undefined, and
 * its answer names none either. `fast` is OpenAI's other word for `priority`; answers say
 * `priority`.
 */
export function serviceTierOf(wanted: z.output<typeof serviceTierField>): ServiceTier | undefined {
  if (wanted === 'auto') return 'default'
  return wanted === 'fast' ? 'priority' : wanted
}
