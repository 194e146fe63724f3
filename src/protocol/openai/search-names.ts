/** The searches that a job may run, by the names that `hyperparameters.optimizer` has for them. */
export const SEARCH_NAMES = [
  'auto',
  'bo',
  'random',
  'tarot',
  'tarot-published',
  'gradient',
  'raft',
  'iterative-dpo',
] as const
export type SearchName = (typeof SEARCH_NAMES)[number]

/** Searches that draw texts, keep some of them by their grades and fit those, in rounds. */
export type RoundSearchName = 'raft' | 'iterative-dpo'

/** Searches whose only hyperparameter is the number of trials. */
export type PlainSearchName = Exclude<SearchName, 'auto' | 'bo' | 'gradient' | RoundSearchName>
