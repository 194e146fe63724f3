/** The reference page: the OpenAPI document as one HTML page without scripts. */
import type { Json } from './operation.ts'

const METHODS = ['get', 'post', 'delete']
/** Deeper parts of a schema are in the document itself. */
const MAX_DEPTH = 6

const STYLE = `
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc}
code,.field{font-family:ui-monospace,monospace;font-size:13px}
details{border:1px solid #ddd;border-radius:4px;margin:.4rem 0;padding:.3rem .7rem}
summary{cursor:pointer}
table{border-collapse:collapse;margin:.4rem 0}
td,th{border:1px solid #ddd;padding:.15rem .5rem;text-align:left;vertical-align:top}
ul{list-style:none;padding-left:1.1rem;margin:.2rem 0;border-left:1px solid #ddd}
.method{display:inline-block;min-width:4rem;font-weight:600}
.note{color:#555}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.note{color:#aaa}}
`

/**
 * Writes the page.
 * @param document as `createDocument` makes it
 * @returns the page, and the policy with which it may be shown: its own style and nothing else
 */
export async function createPage(
  document: Json,
): Promise<{ readonly html: string; readonly policy: string }> {
  const { info, tags, paths, components } = document as {
    readonly info: { readonly title: string; readonly description: string }
    readonly tags: readonly { readonly name: string }[]
    readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>
    readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
  }
  const all = Object.entries(paths).flatMap(([path, methods]) =>
    METHODS.flatMap((method) => {
      const operation = methods[method]
      return operation === undefined ? [] : [{ path, method, operation }]
    }),
  )
  const sections = tags.map(({ name }) => {
    const own = all.filter(({ operation }) => operation.tags.includes(name))
    return `<h2>${escape(name)}</h2>${own.map(writeOperation).join('')}`
  })
  const schemas = Object.entries(components.schemas)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, schema]) => {
      return `<details id="schema-${name}"><summary><code>${name}</code></summary>${writeFields(schema, 0)}</details>`
    })
  const html =
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width">' +
    `<title>${escape(info.title)}: API reference</title><style>${STYLE}</style></head><body>` +
    `<h1>${escape(info.title)}: API reference</h1><p>${escape(info.description)}</p>` +
    '<p>Send a key as <code>Authorization: Bearer KEY</code>. This page is made from ' +
    '<a href="/openapi.json">/openapi.json</a>.</p>' +
    `${sections.join('')}<h2>Schemas</h2>${schemas.join('')}</body></html>`
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(STYLE))
  const hash = btoa(String.fromCharCode(...new Uint8Array(digest)))
  const policy =
    `default-src 'none'; style-src 'sha256-${hash}'; ` +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  return { html, policy }
}

type Schema = {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema | false
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly contentSchema?: Schema
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly default?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
}
type Content = Readonly<Record<string, { readonly schema?: Schema }>>
type Described = {
  readonly operationId: string
  readonly tags: readonly string[]
  readonly summary: string
  readonly description?: string
  readonly security: readonly Readonly<Record<string, readonly string[]>>[]
  readonly parameters?: readonly {
    readonly name: string
    readonly in: string
    readonly required?: boolean
    readonly description?: string
    readonly schema: Schema
  }[]
  readonly requestBody?: { readonly content: Content }
  readonly responses: Readonly<Record<string, { readonly content?: Content }>>
}

function writeOperation(each: {
  readonly path: string
  readonly method: string
  readonly operation: Described
}): string {
  const { operation } = each
  const { description, parameters = [], requestBody, responses, security } = operation
  const scopes = security.flatMap((needed) => Object.values(needed).flat())
  const errors = Object.keys(responses).filter((status) => status !== '200')
  return (
    `<details id="${operation.operationId}"><summary>` +
    `<span class="method">${each.method.toUpperCase()}</span> <code>${escape(each.path)}</code> ` +
    `<span class="note">${escape(operation.summary)}</span></summary>` +
    (description === undefined ? '' : `<p>${escape(description)}</p>`) +
    `<p class="note">${scopes.length === 0 ? 'Needs no key.' : `Needs a key of the scope ${scopes.join(' or ')}.`}</p>` +
    (parameters.length === 0
      ? ''
      : `<table><tr><th>Parameter</th><th>In</th><th>Value</th></tr>${parameters
          .map(
            ({ name, in: place, required = false, description: words = '', schema }) =>
              `<tr><td><code>${escape(name)}</code>${required ? ' *' : ''}</td><td>${place}</td>` +
              `<td>${nameType(schema)} ${escape(words)}</td></tr>`,
          )
          .join('')}</table>`) +
    (requestBody === undefined ? '' : `<h4>Body</h4>${writeContent(requestBody.content)}`) +
    `<h4>Answer</h4>${writeContent(responses['200']?.content ?? {})}` +
    `<p class="note">Errors: ${errors.join(', ')}, as <a href="#schema-Error">Error</a>.</p></details>`
  )
}

const writeContent = (content: Content): string =>
  Object.entries(content)
    .map(([type, { schema = {} }]) => {
      const fields = schema.$ref === undefined ? writeFields(schema, 0) : ''
      return `<p><code>${escape(type)}</code> ${nameType(schema)}</p>${fields}`
    })
    .join('')

/** The fields of an object, of an array's items, or of each alternative. */
function writeFields(schema: Schema, depth: number): string {
  if (depth > MAX_DEPTH) return ''
  const alternatives = (schema.anyOf ?? schema.oneOf ?? []).filter(hasFields)
  if (alternatives.length > 0) {
    return alternatives.map((each) => writeFields(each, depth)).join('<p class="note">or</p>')
  }
  if (schema.items !== undefined && schema.items !== false) return writeFields(schema.items, depth)
  const fields = Object.entries(schema.properties ?? {})
  if (fields.length === 0) return ''
  return `<ul>${fields
    .map(([name, field]) => {
      const { description = '', default: preset } = field
      const isRequired = schema.required?.includes(name) ?? false
      return (
        `<li><span class="field">${escape(name)}</span>${isRequired ? ' *' : ''} ` +
        `<span class="note">${nameType(field)}${preset === undefined ? '' : `, by default ${escape(JSON.stringify(preset))}`}` +
        `${description === '' ? '' : `. ${escape(description)}`}</span>${writeFields(field, depth + 1)}</li>`
      )
    })
    .join('')}</ul>`
}

const hasFields = (schema: Schema): boolean =>
  schema.properties !== undefined ||
  [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.items ? [schema.items] : [])].some(
    hasFields,
  )

function nameType(schema: Schema): string {
  const { $ref, type, items, minimum, maximum, maxLength, maxItems } = schema
  if ($ref !== undefined) {
    const name = $ref.slice($ref.lastIndexOf('/') + 1)
    return `<a href="#schema-${name}">${name}</a>`
  }
  if (schema.const !== undefined) return `<code>${escape(JSON.stringify(schema.const))}</code>`
  if (schema.enum !== undefined) {
    return schema.enum.map((each) => `<code>${escape(JSON.stringify(each))}</code>`).join(' | ')
  }
  if (schema.contentSchema !== undefined) return `JSON: ${nameType(schema.contentSchema)}`
  const alternatives = schema.anyOf ?? schema.oneOf
  if (alternatives !== undefined) return [...new Set(alternatives.map(nameType))].join(' | ')
  const isBounded = (bound: number | undefined): bound is number =>
    bound !== undefined && Math.abs(bound) < Number.MAX_SAFE_INTEGER
  const bounds = [
    ...(isBounded(minimum) ? [`from ${minimum}`] : []),
    ...(isBounded(maximum) ? [`to ${maximum}`] : []),
    ...(maxLength === undefined ? [] : [`at most ${maxLength} characters`]),
    ...(maxItems === undefined ? [] : [`at most ${maxItems}`]),
  ]
  const name =
    type === 'array' && items
      ? `array of ${nameType(items)}`
      : typeof type === 'string'
        ? type
        : (type?.join(' | ') ?? 'anything')
  return bounds.length === 0 ? name : `${name}, ${bounds.join(' ')}`
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
}
const escape = (text: string): string => text.replace(/[&<>"]/g, (char) => ENTITIES[char]!)
