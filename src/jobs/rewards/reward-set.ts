import type { PromptMessage } from '../../protocol/runner.ts'

/** Prompts whose answers are generated and graded, kept in R2 while the job runs. */
export type RewardSet = {
  readonly examples: readonly {
    readonly messages: readonly PromptMessage[]
    /** The last user message, without the frame. */
    readonly input: string
    readonly target: string | null
  }[]
}
