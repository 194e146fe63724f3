export type Minimum = { readonly x: readonly number[]; readonly value: number }

const REFLECT = 1
const EXPAND = 2
const CONTRACT = 0.5
const SHRINK = 0.5

type Vertex = { readonly x: readonly number[]; readonly value: number }

/**
 * Minimises a function of a few variables without derivatives. It stops only after `maxEvaluations`
 * calls of `f`, so that its cost is known.
 * @param start [variables]
 * @param step edge of the first simplex, along each axis
 * @returns the lowest value found and its point; a NaN counts as Infinity
 * Source: Nelder and Mead 1965
 */
export function nelderMead(
  f: (x: readonly number[]) => number,
  start: readonly number[],
  step: number,
  maxEvaluations: number,
): Minimum {
  let numEvaluations = 0
  const vertexAt = (x: readonly number[]): Vertex => {
    numEvaluations++
    const value = f(x)
    return { x, value: Number.isNaN(value) ? Infinity : value }
  }
  let simplex = [vertexAt(start)]
  for (let i = 0; i < start.length; i++) {
    simplex.push(vertexAt(start.map((value, k) => (k === i ? value + step : value))))
  }
  while (numEvaluations < maxEvaluations) {
    simplex.sort((a, b) => a.value - b.value)
    const best = simplex[0]!
    const worst = simplex.at(-1)!
    const others = simplex.slice(0, -1)
    const centroid = start.map(
      (_, k) => others.reduce((sum, { x }) => sum + x[k]!, 0) / others.length,
    )
    const along = (t: number): Vertex =>
      vertexAt(centroid.map((value, k) => value + t * (value - worst.x[k]!)))

    const reflected = along(REFLECT)
    if (reflected.value < best.value) {
      const expanded = along(EXPAND)
      simplex = [...others, expanded.value < reflected.value ? expanded : reflected]
    } else if (reflected.value < others.at(-1)!.value) {
      simplex = [...others, reflected]
    } else {
      const contracted = along(reflected.value < worst.value ? CONTRACT : -CONTRACT)
      if (contracted.value < Math.min(reflected.value, worst.value)) {
        simplex = [...others, contracted]
      } else {
        simplex = simplex.map((vertex) =>
          vertex === best
            ? vertex
            : vertexAt(best.x.map((value, k) => value + SHRINK * (vertex.x[k]! - value))),
        )
      }
    }
  }
  return simplex.reduce((least, vertex) => (vertex.value < least.value ? vertex : least))
}
