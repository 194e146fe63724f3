import type { Node } from '../model.ts'
import { RULES } from './rules.ts'
import type { ShapedGraph } from './shaped-graph.ts'

/**
 * Adds the nodes that compute the gradients of Σ seed ⊙ output by some of a graph's inputs. This is
 * reverse mode: nodes are visited in reverse order, each by its operator's rule, and a value that is
 * used more than once gets the sum of its gradients. Only nodes between the wanted inputs and the
 * outputs are visited.
 * @param seeds the gradient of each output, by the output's name
 * @param wanted inputs of the graph
 * @returns the gradient by each wanted input, with the input's dims
 * @throws {Error} a visited operator without a rule, or an input that no output depends on
 */
export function differentiate(
  graph: ShapedGraph,
  seeds: ReadonlyMap<string, string>,
  wanted: readonly string[],
): ReadonlyMap<string, string> {
  const nodes: readonly Node[] = [...graph.nodes]
  const active = new Set(wanted)
  for (const { opType, inputs, outputs } of nodes) {
    // A value's shape does not depend on its numbers.
    if (opType === 'Shape') continue
    if (inputs.some((input) => active.has(input))) {
      for (const output of outputs) active.add(output)
    }
  }
  const gradients = new Map(seeds)
  const isActive = (input: string): boolean => active.has(input)
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some(isActive)) continue
    const ofOutputs = node.outputs.map((output) => gradients.get(output) ?? null)
    if (ofOutputs.every((gradient) => gradient === null)) continue
    const rule = RULES[node.opType]
    if (!rule) throw new Error(`operator ${node.opType} (${node.name}) has no rule`)
    const ofInputs = rule({ graph, node, gradients: ofOutputs, isActive })
    for (const [i, input] of node.inputs.entries()) {
      const gradient = ofInputs[i] ?? null
      if (gradient === null || !isActive(input)) continue
      const known = gradients.get(input)
      gradients.set(
        input,
        known === undefined ? gradient : graph.op('Add', [known, gradient], graph.dimsOf(input)),
      )
    }
  }
  return new Map(
    wanted.map((input) => {
      const gradient = gradients.get(input)
      if (gradient === undefined) throw new Error(`no output depends on ${input}`)
      return [input, gradient]
    }),
  )
}
