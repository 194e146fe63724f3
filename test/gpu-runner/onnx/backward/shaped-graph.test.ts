import { test } from 'vitest'
import { ShapedGraph } from '../../../../gpu-runner/onnx/backward/shaped-graph.ts'
import { int } from '../../../../gpu-runner/onnx/model.ts'

test('a graph tells ONNX Runtime the dims of every intermediate float value', ({ expect }) => {
  const graph = new ShapedGraph()
  graph.input('x', 'float32', ['n', 4])
  graph.input('ids', 'int64', ['n'])
  const shape = graph.op('Shape', ['x'], [2])
  const joined = graph.op('Concat', [shape, graph.int64([1])], [3], { axis: int(0) })
  const wide = graph.op('Reshape', ['x', joined], ['n', 4, 1])
  const zeros = graph.op('ConstantOfShape', [shape], ['n', 4])
  const rows = graph.op('Gather', ['x', 'ids'], ['n', 4])
  const halves = graph.split(
    'Split',
    [rows, graph.int64([1, 3])],
    [
      ['n', 1],
      ['n', 3],
    ],
    { axis: int(-1) },
  )
  expect(graph.finish().values).toEqual([
    { name: wide, type: 'float32', dims: ['n', 4, 1] },
    { name: zeros, type: 'float32', dims: ['n', 4] },
    { name: rows, type: 'float32', dims: ['n', 4] },
    { name: halves[0], type: 'float32', dims: ['n', 1] },
    { name: halves[1], type: 'float32', dims: ['n', 3] },
  ])
})
