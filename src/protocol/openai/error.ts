/** The gateway's error, in OpenAI's shape. It is the only exception that routes throw on purpose. */
export type ErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'rate_limit_error'
  | 'server_error'
  // What OpenAI says of a limit: which, or that money is short.
  | 'requests'
  | 'tokens'
  | 'insufficient_quota'

export type ErrorBody = {
  readonly error: {
    readonly message: string
    readonly type: ErrorType
    readonly param: string | null
    readonly code: string | null
  }
}

export type ErrorStatus =
  400 | 401 | 403 | 404 | 405 | 409 | 413 | 415 | 429 | 500 | 502 | 503 | 504

type ErrorDetail = {
  readonly type?: ErrorType
  readonly param?: string | null
  readonly code?: string | null
  readonly retryAfterSeconds?: number
  readonly isFinal?: boolean
}

export class ApiError extends Error {
  readonly status: ErrorStatus
  readonly type: ErrorType
  readonly param: string | null
  readonly code: string | null
  readonly retryAfterSeconds: number | null
  /** OpenAI's clients retry a 5xx on their own; this tells them not to. */
  readonly isFinal: boolean
  readonly #detail: ErrorDetail

  constructor(status: ErrorStatus, message: string, detail: ErrorDetail = {}) {
    super(message)
    this.#detail = detail
    this.name = 'ApiError'
    this.status = status
    this.type = detail.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error')
    this.param = detail.param ?? null
    this.code = detail.code ?? null
    this.retryAfterSeconds = detail.retryAfterSeconds ?? null
    this.isFinal = detail.isFinal ?? false
  }

  /** The same error with its field renamed, also at the beginning of its message. */
  withParam(rename: (param: string) => string): ApiError {
    const { status, message, param } = this
    if (param === null || rename(param) === param) return this
    const own = message.startsWith(param) ? rename(param) + message.slice(param.length) : message
    return new ApiError(status, own, { ...this.#detail, param: rename(param) })
  }

  toBody(): ErrorBody {
    return {
      error: { message: this.message, type: this.type, param: this.param, code: this.code },
    }
  }
}

export const invalidRequest = (message: string, param: string | null = null, code?: string) =>
  new ApiError(400, message, { param, code: code ?? null })

/** Refuses a field's value, as OpenAI words it: `Invalid 'FIELD': MESSAGE.` */
export const invalidField = (param: string, message: string, code?: string) =>
  invalidRequest(`Invalid '${param}': ${message}.`, param, code)

export const notFound = (message: string, param: string | null, code: string) =>
  new ApiError(404, message, { param, code })

/** 403: the key may not do this; `scope` would let it. */
export const missingScope = (scope: string) =>
  new ApiError(
    403,
    `You have insufficient permissions for this operation. Missing scopes: ${scope}. ` +
      "An admin key may change the key's scopes.",
    { code: 'missing_scope' },
  )

/** What a caller is told of an error that is nobody's but the gateway's. */
export const internalError = () =>
  new ApiError(500, 'The server had an error while processing your request.')
