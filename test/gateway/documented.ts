/** Holds answers of the gateway against its OpenAPI document. */
import { exports } from 'cloudflare:workers'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'

type Media = { readonly schema?: object }
/** A stream's schema describes one event, whose data is JSON as text. */
type EventSchema = { readonly properties: { readonly data: { readonly contentSchema: object } } }
type Answer = {
  readonly headers?: Readonly<Record<string, unknown>>
  readonly content: Readonly<Record<string, Media>>
}
type Parameter = { readonly name: string; readonly in: string }
export type DescribedOperation = {
  readonly operationId: string
  readonly security: readonly Readonly<Record<string, readonly string[]>>[]
  readonly parameters?: readonly Parameter[]
  readonly responses: Readonly<Record<string, Answer | { readonly $ref: string }>>
}
export type Document = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, DescribedOperation>>>>
  readonly components: { readonly responses: Readonly<Record<string, Answer>> }
}

/** Headers that every HTTP answer may have, or that say nothing about this API. */
const COMMON = [
  'content-type',
  'content-length',
  'content-disposition',
  'content-security-policy',
  'x-content-type-options',
  'referrer-policy',
  'cache-control',
  'vary',
]

export class Documented {
  readonly document: Document
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false })
  readonly #validators = new Map<string, ValidateFunction>()
  /** The ids of the operations whose answers were held. */
  readonly seen = new Set<string>()

  private constructor(document: Document) {
    this.document = document
    this.#ajv.addSchema(document, 'doc')
  }

  static async fetch(): Promise<Documented> {
    const response = await exports.default.fetch('http://gateway/openapi.json')
    return new Documented(await response.json<Document>())
  }

  /**
   * Reads an answer and compares its status, headers, type and body with its operation.
   * @param route as Hono writes it: `GET /v1/files/:id`
   * @returns the body's text
   * @throws {Error} naming what the document does not have
   */
  async hold(route: string, response: Response): Promise<string> {
    const [method, path] = route.split(' ') as [string, string]
    const operation = this.document.paths[path.replace(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()]
    const text = await response.text()
    const fail = (what: string): never => {
      throw new Error(`${route} ${response.status}: ${what}\n${text.slice(0, 2000)}`)
    }
    if (operation === undefined) return fail('no such operation')
    const named = operation.responses[response.status] ?? fail('the status is not documented')
    const answer =
      '$ref' in named ? this.document.components.responses[named.$ref.split('/').at(-1)!]! : named
    for (const [name] of response.headers) {
      if (COMMON.includes(name)) continue
      if (answer.headers?.[name] === undefined) fail(`the header ${name} is not documented`)
    }
    const type = response.headers.get('content-type')?.split(';')[0] ?? 'none'
    const media = answer.content[type] ?? fail(`the type ${type} is not documented`)
    if (type === 'application/json') this.#check(media, JSON.parse(text), fail)
    if (type === 'text/event-stream') {
      const { contentSchema } = (media.schema as EventSchema).properties.data
      for (const line of text.split('\n')) {
        if (!line.startsWith('data: ') || line === 'data: [DONE]') continue
        this.#check({ schema: contentSchema }, JSON.parse(line.slice('data: '.length)), fail)
      }
    }
    this.seen.add(operation.operationId)
    return text
  }

  #check({ schema = {} }: Media, value: unknown, fail: (what: string) => never): void {
    const text = JSON.stringify(schema).replaceAll('"#/components', '"doc#/components')
    let validate = this.#validators.get(text)
    if (validate === undefined) {
      validate = this.#ajv.compile(JSON.parse(text) as object)
      this.#validators.set(text, validate)
    }
    if (validate(value)) return
    fail(`the body differs: ${this.#ajv.errorsText(validate.errors).slice(0, 1000)}`)
  }
}
