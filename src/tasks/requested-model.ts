import type { Config } from '../env.ts'
import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import { readSelection } from './resolve.ts'
import { formatSelection, type SelectionTerm } from './selection.ts'

/** The base model that a request names, and the selection that it writes after a `:`. */
export type RequestedModel = { readonly model: string; readonly selection: string | null }

/** The base models that this gateway serves. */
export const servedModels = (config: Config): readonly string[] => config.baseModels

/** The base model for requests that name none. */
export const defaultModel = (config: Config): string => config.baseModels[0]

/**
 * Reads `SLUG` or `SLUG:SELECTION`.
 * @param text if absent, the default model
 * @throws {ApiError} 404 if no served model has the slug
 */
export function readModel(config: Config, text: string = defaultModel(config)): RequestedModel {
  for (const model of servedModels(config)) {
    if (text === model) return { model, selection: null }
    if (text.startsWith(`${model}:`)) return { model, selection: text.slice(model.length + 1) }
  }
  throw modelNotFound(text)
}

export const modelNotFound = (model: string) =>
  new ApiError(404, `The model \`${model}\` does not exist.`, {
    param: 'model',
    code: 'model_not_found',
  })

export type Selected = { readonly terms: readonly SelectionTerm[]; readonly param: string }

/**
 * Reads the selection that a request names after its model's `:` or in `x-task`.
 * @param afterModel the text after the `:`; null if there is none
 * @returns null for the base model
 * @throws {ApiError} 400 if both are given and differ
 */
export function selectionOf(
  afterModel: string | null,
  header: string | undefined,
): Selected | null {
  const fromModel = afterModel === null ? null : readSelection(afterModel, 'model')
  const fromHeader = header === undefined ? null : readSelection(header, 'x-task')
  if (fromModel !== null && fromHeader !== null) {
    const [a, b] = [formatSelection(fromModel), formatSelection(fromHeader)]
    if (a !== b) {
      throw invalidRequest(
        `The model names the task "${a}" and the x-task header "${b}"; give one of them.`,
        'x-task',
        'conflicting_selection',
      )
    }
  }
  if (fromHeader !== null) return { terms: fromHeader, param: 'x-task' }
  return fromModel === null ? null : { terms: fromModel, param: 'model' }
}
