import type { RunnerTools, ToolFunction } from '../../src/protocol/tools.ts'
import type { RunnerResponseFormat } from '../../src/protocol/response-format.ts'
import { readFormat, type WrittenGrammar } from './grammar-store.ts'
import { SchemaError, type ReadSchema, type SchemaGrammar, type SchemaNode } from './schema/node.ts'
import { readSchema } from './schema/read-schema.ts'
import { literal } from './schema/ebnf-literal.ts'
import { writeEbnf } from './schema/write-ebnf.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { ToolFormat } from '../tools/tool-format.ts'

/** Most calls in one answer: a weak model would go on calling until it runs out of tokens. */
const MAX_CALLS = 16
/** Any object. */
const ANY_ARGUMENTS: SchemaNode = {
  kind: 'map',
  keys: null,
  values: { kind: 'any' },
  minProperties: 0,
  maxProperties: null,
}

/** Whether the functions alone need a grammar, whatever the response format. */
export const needsToolGrammar = ({ choice, functions }: RunnerTools): boolean =>
  choice !== 'auto' || functions.some(({ strict }) => strict === true)

/**
 * Writes the grammar of a request with functions.
 *
 * - Where calls are required, the answer is calls and nothing else; a response format then plays no
 *   part.
 * - With a response format, the answer is calls alone or a text of that format.
 * - Otherwise the text is free, but a call to a `strict` function keeps to the function's schema.
 * @returns null where the answer needs no grammar
 * @throws {RunnerFault} invalid_request naming the function or format that cannot be enforced, and why
 */
export function writeToolGrammar(
  format: ToolFormat,
  tools: RunnerTools,
  responseFormat?: RunnerResponseFormat,
): WrittenGrammar | null {
  const { functions, choice, parallel } = tools
  if (!needsToolGrammar(tools) && responseFormat === undefined) return null
  const answer =
    responseFormat === undefined || choice !== 'auto' ? null : readFormat(responseFormat, 'answer:')
  const callable = functions
    .map((each, index) => ({ each, index }))
    .filter(({ each }) => typeof choice === 'string' || each.name === choice.name)
  const mayBeText = choice === 'auto' && answer === null
  const calls = callable.map(({ each, index }) => {
    return readCall(format, each, index, !mayBeText || each.strict === true)
  })
  const grammar: SchemaGrammar = {
    root: { kind: 'union', of: calls.map(({ root }) => root) },
    targets: new Map(
      [...calls, ...(answer === null ? [] : [answer])].flatMap(({ targets }) => [...targets]),
    ),
  }
  const isSingle = !parallel || !format.parallel || typeof choice === 'object'
  const repeat = (rule: string): string =>
    isSingle ? rule : `${rule} (${literal(format.between)} ${rule}){0,${MAX_CALLS - 1}}`
  const { markers, open, close } = format
  const ebnf = writeEbnf(grammar, (rule, write) => {
    const called = `${literal(open)} ${repeat(rule)} ${literal(close)}`
    if (choice !== 'auto') return `root ::= ${called}`
    if (answer !== null) return `root ::= ${called} | ${write(answer.root)}`
    // No marker tells a call from text, but a call's first character does.
    if (markers === null) {
      return [`root ::= ${repeat(rule)} | text`, 'text ::= "" | [^{\\0-\\x20] [^\\0-\\x08]*'].join(
        '\n',
      )
    }
    const rest = literal(open.slice(markers.begin.length))
    return [
      `root ::= TagDispatch((${literal(markers.begin)}, section), stop_eos=true, stop_str=(), loop_after_dispatch=true)`,
      `section ::= ${rest} ${repeat(rule)} ${literal(close)}`,
    ].join('\n')
  })
  return { ebnf, hints: [...calls.flatMap(({ hints }) => hints), ...(answer?.hints ?? [])] }
}

function readCall(
  { argumentsKey }: ToolFormat,
  each: ToolFunction,
  index: number,
  enforcesArguments: boolean,
): ReadSchema {
  const { name } = each
  const { root, targets, hints } = enforcesArguments
    ? readParameters(each, index)
    : { root: ANY_ARGUMENTS, targets: new Map<string, SchemaNode>(), hints: [] }
  const nameNode: SchemaNode = { kind: 'literals', texts: [JSON.stringify(name)] }
  return {
    root: {
      kind: 'object',
      properties: [
        { name: 'name', node: nameNode, required: true },
        { name: argumentsKey, node: root, required: true },
      ],
    },
    targets,
    hints,
  }
}

function readParameters(
  { name, parameters, strict = false }: ToolFunction,
  index: number,
): ReadSchema {
  const refuse = (reason: string): RunnerFault =>
    new RunnerFault('invalid_request', `the parameters of ${name} cannot be enforced: ${reason}`, {
      param: `tools[${index}].function.parameters`,
    })
  try {
    const schema = parameters ?? { type: 'object', additionalProperties: false }
    const read = readSchema(schema, { targetPrefix: `${index}:`, isStrict: strict })
    const hints = read.hints.map((pointer) => `tools[${index}]${pointer}`)
    if (isObject(read.root, read.targets)) return { ...read, hints }
  } catch (error) {
    if (error instanceof SchemaError) throw refuse(error.message)
    throw error
  }
  throw refuse('they must be an object')
}

function isObject(node: SchemaNode, targets: SchemaGrammar['targets']): boolean {
  switch (node.kind) {
    case 'object':
    case 'map':
      return true
    case 'union':
      return node.of.every((member) => isObject(member, targets))
    case 'ref':
      return isObject(targets.get(node.target)!, targets)
    default:
      return false
  }
}
