import type { GenerateRequest } from '../protocol/runner.ts'

/** About the 128 tokens of one block of a runner's prefix cache, in characters. */
const HEAD_CHARS = 512

/**
 * Names what a request's prompt begins with. Requests with equal names can share computed KV, so they
 * should meet on one runner: KV is shared within a tenant, and an adapter of scope `all` makes other
 * KV.
 */
export function promptHead({ tenant, arms, messages, prompt }: GenerateRequest): string {
  const rotating = arms.filter(({ scope }) => scope === 'all').map(({ adapters }) => adapters)
  const head =
    typeof prompt === 'string'
      ? prompt.slice(0, HEAD_CHARS)
      : JSON.stringify(messages ?? prompt?.slice(0, HEAD_CHARS)).slice(0, HEAD_CHARS)
  return JSON.stringify([tenant, rotating, head])
}
