import { GgufError } from './errors.ts'

/** Typed access to a GGUF header's key-value pairs. A wrong type is an error that names the key. */
export class GgufMetadata {
  readonly #values: ReadonlyMap<string, unknown>

  constructor(values: ReadonlyMap<string, unknown>) {
    this.#values = values
  }

  has(key: string): boolean {
    return this.#values.has(key)
  }

  keys(): string[] {
    return [...this.#values.keys()]
  }

  string(key: string): string {
    return this.#required(key, this.optionalString(key))
  }

  number(key: string): number {
    return this.#required(key, this.optionalNumber(key))
  }

  boolean(key: string): boolean {
    return this.#required(key, this.optionalBoolean(key))
  }

  strings(key: string): readonly string[] {
    return this.#array(key, (item) => typeof item === 'string', 'strings') as readonly string[]
  }

  numbers(key: string): readonly number[] {
    return this.#array(key, (item) => typeof item === 'number', 'numbers') as readonly number[]
  }

  optionalString(key: string): string | undefined {
    const value = this.#values.get(key)
    if (value === undefined || typeof value === 'string') return value
    throw new GgufError(`metadata ${key} is not a string`)
  }

  /** 64-bit integers too, where they are exact as numbers. */
  optionalNumber(key: string): number | undefined {
    const value = this.#values.get(key)
    if (value === undefined || typeof value === 'number') return value
    if (typeof value === 'bigint' && Number.isSafeInteger(Number(value))) return Number(value)
    throw new GgufError(`metadata ${key} is not a number`)
  }

  optionalBoolean(key: string): boolean | undefined {
    const value = this.#values.get(key)
    if (value === undefined || typeof value === 'boolean') return value
    throw new GgufError(`metadata ${key} is not a boolean`)
  }

  #required<T>(key: string, value: T | undefined): T {
    if (value === undefined) throw new GgufError(`metadata ${key} is missing`)
    return value
  }

  #array(key: string, holds: (item: unknown) => boolean, what: string): readonly unknown[] {
    const value = this.#required(key, this.#values.get(key))
    if (!Array.isArray(value) || !value.every(holds)) {
      throw new GgufError(`metadata ${key} is not an array of ${what}`)
    }
    return value
  }
}
