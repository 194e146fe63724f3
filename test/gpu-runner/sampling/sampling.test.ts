import fc from 'fast-check'
import { describe, test } from 'vitest'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { sample, type SamplerOptions } from '../../../gpu-runner/sampling/sampler.ts'
import { StopMatcher } from '../../../gpu-runner/sampling/stop-matcher.ts'

describe('sampler', () => {
  test('temperature 0 takes the largest logit, and on a tie the first', ({ expect }) => {
    const never = () => {
      throw new Error('greedy draws nothing')
    }
    expect(sample([0, 3, 1, 3], { temperature: 0, topP: 1 }, never)).toBe(1)
  })

  test('draws follow the softmax at its temperature', ({ expect }) => {
    const logits = [1, 0, -1, 2]
    const temperature = 0.7
    const weights = logits.map((logit) => Math.exp(logit / temperature))
    const total = weights.reduce((a, b) => a + b)
    const random = createRng(3)
    const counts = [0, 0, 0, 0]
    const numDraws = 20_000
    for (let i = 0; i < numDraws; i++)
      counts[sample(logits, { temperature, topP: 1 }, random)]! += 1
    for (const [i, count] of counts.entries()) {
      const p = weights[i]! / total
      // Five standard deviations of a binomial share.
      expect(Math.abs(count / numDraws - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / numDraws))
    }
  })

  test('top_p never draws outside the smallest set that reaches it', ({ expect }) => {
    const logits = [0.5, 0.3, 0.15, 0.05].map(Math.log)
    const random = createRng(4)
    const seen = new Set<number>()
    for (let i = 0; i < 2_000; i++) seen.add(sample(logits, { temperature: 1, topP: 0.79 }, random))
    expect([...seen].sort()).toEqual([0, 1])
  })

  test('min_p, top_k and top_p never draw what they exclude, whatever the others do', ({
    expect,
  }) => {
    const options = fc.record({
      temperature: fc.double({ min: 0.1, max: 2, noNaN: true }),
      topP: fc.double({ min: 0.01, max: 1, noNaN: true }),
      topK: fc.integer({ min: 1, max: 12 }),
      minP: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    const logits = fc.array(fc.integer({ min: -40, max: 40 }), { minLength: 1, maxLength: 10 })
    fc.assert(
      fc.property(logits, options, fc.integer(), (values, given, seed) => {
        const allowed = allowedByDefinition(values, given)
        const random = createRng(seed)
        for (let i = 0; i < 20; i++) expect(allowed).toContain(sample(values, given, random))
      }),
    )
  })

  test('tokens that all of them allow are drawn by their renormalised shares', ({ expect }) => {
    const logits = [0.4, 0.3, 0.2, 0.06, 0.04].map(Math.log)
    const random = createRng(5)
    const counts = [0, 0, 0, 0, 0]
    // top_k leaves three, of which 0.4/0.9 + 0.3/0.9 reach 0.7.
    const options = { temperature: 1, topP: 0.7, topK: 3, minP: 0.12 }
    const numDraws = 10_000
    for (let i = 0; i < numDraws; i++) counts[sample(logits, options, random)]! += 1
    expect(counts.slice(2)).toEqual([0, 0, 0])
    expect(counts[0]! / numDraws).toBeCloseTo(4 / 7, 1)
  })

  test('each seed has its own stream', ({ expect }) => {
    const first = (seed: number) => Array.from({ length: 4 }, createRng(seed))
    expect(first(1)).toEqual(first(1))
    expect(first(1)).not.toEqual(first(2))
  })
})

/** The tokens that may be drawn, by the plain definition. */
function allowedByDefinition(
  logits: readonly number[],
  options: { temperature: number; topP: number; topK: number; minP: number },
): number[] {
  const top = Math.max(...logits)
  const all = logits.map((logit, index) => ({
    index,
    p: Math.exp((logit - top) / options.temperature),
  }))
  const likely = all
    .filter(({ p }) => p >= options.minP)
    .sort((a, b) => b.p - a.p || a.index - b.index)
    .slice(0, options.topK)
  const total = likely.reduce((sum, { p }) => sum + p, 0)
  let before = 0
  return likely
    .filter(({ p }) => {
      // Rounding may separate the sums exactly at the bound.
      const isNeeded = before / total < options.topP + 1e-12
      before += p
      return isNeeded
    })
    .map(({ index }) => index)
}

describe('stop matcher', () => {
  test('text is cut at the first stop string wherever pieces break', ({ expect }) => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 30 })
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(
        text,
        fc.array(stop, { maxLength: 3 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 4 })),
        (whole, stops, sizes) => {
          const matcher = new StopMatcher(stops)
          let shown = ''
          let stopped = false
          for (let at = 0; at < whole.length && !stopped;) {
            const size = sizes.next().value as number
            const piece = matcher.push(whole.slice(at, at + size))
            at += size
            shown += piece.text
            stopped = piece.stopped
          }
          if (!stopped) shown += matcher.flush()
          const ends = stops.map((s) => whole.indexOf(s)).filter((i) => i >= 0)
          // Pieces are whole tokens, so a later stop inside the same piece may win only if it is first.
          if (ends.length === 0) expect(shown).toBe(whole)
          else {
            expect(stopped).toBe(true)
            expect(whole.startsWith(shown)).toBe(true)
            expect(stops.some((s) => shown.includes(s))).toBe(false)
          }
        },
      ),
    )
  })
})

describe('a draw from a large vocabulary', () => {
  /** The definition, step by step, every weight sorted. */
  function drawPlainly(logits: Float32Array, options: SamplerOptions, uniform: number): number {
    const top = Math.max(...logits)
    const least = Math.max(1e-9, options.minP ?? 0)
    let kept = Array.from(logits, (logit, index) => ({
      index,
      weight: Math.exp((logit - top) / options.temperature),
    })).filter(({ weight }) => weight >= least)
    const sumOf = (entries: typeof kept) => entries.reduce((sum, { weight }) => sum + weight, 0)
    let total = sumOf(kept)
    const topK = options.topK ?? Infinity
    if (options.topP < 1 || topK < kept.length) {
      kept.sort((x, y) => y.weight - x.weight || x.index - y.index)
    }
    if (topK < kept.length) {
      kept = kept.slice(0, topK)
      total = sumOf(kept)
    }
    if (options.topP < 1) {
      let count = 0
      while (count < kept.length && sumOf(kept.slice(0, count)) < options.topP * total) count += 1
      kept = kept.slice(0, count)
      total = sumOf(kept)
    }
    let left = uniform * total
    for (const { index, weight } of kept) {
      left -= weight
      if (left < 0) return index
    }
    return kept.at(-1)!.index
  }

  test.for([
    { temperature: 1, topP: 1 },
    { temperature: 0.7, topP: 0.9 },
    { temperature: 1.5, topP: 1, topK: 50 },
    { temperature: 1, topP: 0.8, topK: 40 },
    { temperature: 1, topP: 0.95, minP: 0.02 },
    { temperature: 2, topP: 0.999 },
    { temperature: 2, topP: 1, topK: 2_000 },
  ])('is the definition’s: %o', (options, { expect }) => {
    const random = createRng(5)
    for (let round = 0; round < 12; round++) {
      // From nearly flat to nearly certain, with some equal logits.
      const spread = 1 + round
      const logits = Float32Array.from({ length: 3_000 }, () =>
        Math.fround(Math.round(8 * spread * (random() + random() - 1)) / 8),
      )
      const uniform = random()
      expect(sample(logits, options, () => uniform)).toBe(drawPlainly(logits, options, uniform))
    }
  })
})
