import type { Pattern } from './pattern.ts'

/** Positions visited at most; nested repeats could take far more. */
const MAX_STEPS = 100_000

/**
 * Whether a pattern admits a text. All positions that a part of the pattern can reach are followed at
 * once, so no pattern takes exponential time.
 * @returns false also where it takes over {@link MAX_STEPS}
 */
export function matchesPattern(pattern: Pattern, text: string): boolean {
  let numSteps = 0
  const follow = (part: Pattern, starts: ReadonlySet<number>): ReadonlySet<number> => {
    numSteps += starts.size + 1
    if (numSteps > MAX_STEPS) return new Set()
    switch (part.kind) {
      case 'chars': {
        const isIn = (code: number): boolean =>
          part.ranges.some(([from, to]) => code >= from && code <= to)
        return new Set([...starts].filter((at) => isIn(text.charCodeAt(at))).map((at) => at + 1))
      }
      case 'sequence':
        return part.of.reduce((at, each) => follow(each, at), starts)
      case 'either':
        return new Set(part.of.flatMap((each) => [...follow(each, starts)]))
      case 'repeat':
        return followRepeat(part, starts)
    }
  }
  const followRepeat = (
    { of, min, max }: Extract<Pattern, { kind: 'repeat' }>,
    starts: ReadonlySet<number>,
  ): ReadonlySet<number> => {
    let now = starts
    const ends = new Set(min === 0 ? starts : [])
    for (let times = 1; times <= (max ?? Infinity) && now.size > 0; times++) {
      const next = follow(of, now)
      const isSettled = next.size === now.size && [...next].every((at) => now.has(at))
      now = next
      const before = ends.size
      if (times >= min || isSettled) for (const at of now) ends.add(at)
      if (isSettled || (times > min && ends.size === before)) break
    }
    return ends
  }
  return follow(pattern, new Set([0])).has(text.length)
}
