export const OPTIMISERS = [
  'auto',
  'bo',
  'random',
  'tarot',
  'tarot-published',
  'gradient',
  'raft',
  'iterative-dpo',
] as const
export type OptimiserName = (typeof OPTIMISERS)[number]

/** What draws texts, keeps some of them by a grader and fits those, in rounds. */
export type RoundOptimiserName = 'raft' | 'iterative-dpo'
export const isInRounds = (optimiser: OptimiserName): optimiser is RoundOptimiserName =>
  optimiser === 'raft' || optimiser === 'iterative-dpo'

/** What asks for candidates and is told what each is worth, by nothing but its name. */
export type ValueOptimiserName = Exclude<
  OptimiserName,
  'auto' | 'bo' | 'gradient' | RoundOptimiserName
>
