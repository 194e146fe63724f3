import { tensorNames, type Family } from './family.ts'
import { GEMMA3 } from './gemma3.ts'
import { LLAMA } from './llama.ts'
import { QWEN2 } from './qwen2.ts'
import { QWEN3 } from './qwen3.ts'

export { tensorNames, type Family }

/** By `general.architecture`. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map(
  [LLAMA, QWEN2, QWEN3, GEMMA3].map((family) => [family.arch, family]),
)
