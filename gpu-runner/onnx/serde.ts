import onnxProto from 'onnx-proto'
import {
  MICROSOFT_DOMAIN,
  type Attribute,
  type ElementType,
  type Graph,
  type Initializer,
} from './model.ts'

const { onnx } = onnxProto
/** The IR version and opset that every kernel used here is registered for. */
const IR_VERSION = 9
const OPSET = 18

const ELEMENT_TYPES: Readonly<Record<ElementType, number>> = {
  float32: onnx.TensorProto.DataType.FLOAT,
  uint8: onnx.TensorProto.DataType.UINT8,
  int8: onnx.TensorProto.DataType.INT8,
  int32: onnx.TensorProto.DataType.INT32,
  int64: onnx.TensorProto.DataType.INT64,
}

function encodeAttribute(name: string, attribute: Attribute): onnxProto.onnx.IAttributeProto {
  const { AttributeType } = onnx.AttributeProto
  switch (attribute.kind) {
    case 'int':
      return { name, type: AttributeType.INT, i: attribute.value }
    case 'float':
      return { name, type: AttributeType.FLOAT, f: attribute.value }
    case 'ints':
      return { name, type: AttributeType.INTS, ints: [...attribute.value] }
  }
}

/**
 * Encodes a graph as an ONNX ModelProto.
 * @param dataFile name of the external data file, in the model's folder, to which offsets refer
 */
export function encodeModel(graph: Graph, dataFile: string): Uint8Array {
  const valueInfo = (value: Graph['inputs'][number]): onnxProto.onnx.IValueInfoProto => ({
    name: value.name,
    type: {
      tensorType: {
        elemType: ELEMENT_TYPES[value.type],
        shape: {
          dim: value.dims.map((dim) =>
            typeof dim === 'number' ? { dimValue: dim } : { dimParam: dim },
          ),
        },
      },
    },
  })
  const model = onnx.ModelProto.create({
    irVersion: IR_VERSION,
    producerName: 'arcana',
    opsetImport: [
      { domain: '', version: OPSET },
      { domain: MICROSOFT_DOMAIN, version: 1 },
    ],
    graph: {
      name: 'decoder',
      node: graph.nodes.map((node) => ({
        name: node.name,
        opType: node.opType,
        domain: node.domain,
        input: [...node.inputs],
        output: [...node.outputs],
        attribute: Object.entries(node.attributes).map(([name, attribute]) =>
          encodeAttribute(name, attribute),
        ),
      })),
      input: graph.inputs.map(valueInfo),
      output: graph.outputs.map(valueInfo),
      valueInfo: (graph.values ?? []).map(valueInfo),
      initializer: graph.initializers.map(({ name, type, dims, bytes }) => ({
        name,
        dims: [...dims],
        dataType: ELEMENT_TYPES[type],
        ...(bytes instanceof Uint8Array
          ? { rawData: bytes }
          : {
              dataLocation: onnx.TensorProto.DataLocation.EXTERNAL,
              externalData: [
                { key: 'location', value: dataFile },
                { key: 'offset', value: String(bytes.offset) },
                { key: 'length', value: String(bytes.length) },
              ],
            }),
      })),
    },
  })
  return onnx.ModelProto.encode(model).finish()
}

/**
 * Reads, by name, the tensors that a model of `encodeModel` keeps in its external data file.
 * @throws {Error} bytes that are not a ModelProto, or a tensor of a type that `encodeModel` does not
 *   write
 */
export function decodeExternalInitializers(bytes: Uint8Array): ReadonlyMap<string, Initializer> {
  const { graph } = onnx.ModelProto.decode(bytes)
  const found = new Map<string, Initializer>()
  for (const tensor of graph?.initializer ?? []) {
    if (tensor.dataLocation !== onnx.TensorProto.DataLocation.EXTERNAL) continue
    const name = tensor.name ?? ''
    const entries = new Map((tensor.externalData ?? []).map(({ key, value }) => [key, value]))
    const type = (Object.keys(ELEMENT_TYPES) as ElementType[]).find(
      (candidate) => ELEMENT_TYPES[candidate] === tensor.dataType,
    )
    if (type === undefined) throw new Error(`weight ${name} has an unknown type`)
    found.set(name, {
      name,
      type,
      dims: (tensor.dims ?? []).map(Number),
      bytes: { offset: Number(entries.get('offset')), length: Number(entries.get('length')) },
    })
  }
  return found
}
