/**
 * Runs asynchronous work on items, a limited number at a time.
 * @returns the results in the items' order
 * @throws the first error, but only after all work that has begun has ended
 */
export async function inPool<T, R>(
  items: readonly T[],
  numTogether: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length)
  const failures: unknown[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const index = next++
      try {
        results[index] = await work(items[index]!, index)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(numTogether, items.length) }, worker))
  if (failures.length > 0) throw failures[0]
  return results
}
