/** Merges between two pauses of the generator: some milliseconds of work. */
const STEP_MERGES = 2048

/**
 * Byte-pair encoding. Of all neighbours that can merge, the pair with the highest priority does, of
 * equal ones the leftmost, until no pair can. At each `yield` a caller may let other work run.
 * @param text its characters are the first symbols
 * @param priorityOf priority of merging text[start, middle) with text[middle, end); undefined if they
 *   never merge
 * @returns where each remaining symbol begins, in order
 */
export function* mergePairs(
  text: string,
  priorityOf: (start: number, middle: number, end: number) => number | undefined,
): Generator<void, number[]> {
  // Symbols are stretches [start, end) of the text, linked to their neighbours. After a merge the right
  // one stays behind as an empty stretch.
  const start = new Int32Array(text.length)
  const end = new Int32Array(text.length)
  let numSymbols = 0
  for (let at = 0; at < text.length; numSymbols++) {
    start[numSymbols] = at
    at += text.codePointAt(at)! > 0xffff ? 2 : 1
    end[numSymbols] = at
  }
  const previous = new Int32Array(numSymbols)
  const next = new Int32Array(numSymbols)
  for (let i = 0; i < numSymbols; i++) {
    previous[i] = i - 1
    next[i] = i + 1 < numSymbols ? i + 1 : -1
  }
  const queue = new MergeQueue()
  const consider = (left: number, right: number): void => {
    if (left < 0 || right < 0) return
    const priority = priorityOf(start[left]!, start[right]!, end[right]!)
    if (priority !== undefined) queue.push({ priority, left, right, end: end[right]! })
  }
  for (let i = 1; i < numSymbols; i++) {
    consider(i - 1, i)
    if (i % STEP_MERGES === 0) yield
  }
  let numTaken = 0
  for (let merge = queue.pop(); merge; merge = queue.pop()) {
    if (++numTaken % STEP_MERGES === 0) yield
    const { left, right } = merge
    // Either symbol may have merged with another since this was queued.
    if (next[left] !== right || end[right] !== merge.end) continue
    end[left] = merge.end
    end[right] = start[right]!
    next[left] = next[right]!
    if (next[left] >= 0) previous[next[left]] = left
    next[right] = -1
    consider(previous[left]!, left)
    consider(left, next[left])
  }
  const starts: number[] = []
  for (let i = numSymbols > 0 ? 0 : -1; i >= 0; i = next[i]!) starts.push(start[i]!)
  return starts
}

type Merge = {
  readonly priority: number
  readonly left: number
  readonly right: number
  /** Where the right symbol ended when this was queued, which shows whether it has grown since. */
  readonly end: number
}

/** A binary heap: the highest priority first, of equal ones the leftmost. */
class MergeQueue {
  readonly #heap: Merge[] = []

  push(merge: Merge): void {
    const heap = this.#heap
    heap.push(merge)
    let at = heap.length - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(merge, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = merge
  }

  pop(): Merge | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return first
  }
}

const isBefore = (a: Merge, b: Merge): boolean =>
  a.priority > b.priority || (a.priority === b.priority && a.left < b.left)
