import type { AdapterStore } from '../adapters/adapter-store.ts'
import type { SlotTable } from '../adapters/slot-table.ts'
import type { ChatTokenizer } from '../tokenizer/index.ts'
import type { LabelTries } from './label-tries.ts'

/** What a runner has that a request is checked against and made from. */
export type AdmissionContext = {
  readonly tokenizer: ChatTokenizer
  readonly tries: LabelTries
  readonly adapters: AdapterStore
  readonly slots: SlotTable
  readonly modelDigest: string
  readonly buildDigest: string
  readonly maxContext: number
  /** Deadline of a request that names none, counted from its admission. */
  readonly requestTimeoutMs: number
  readonly now: () => number
}
