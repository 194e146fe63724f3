import { servicesOf } from '../../services.ts'
import type { Bindings } from '../../env.ts'
import { invalidRequest } from '../../protocol/openai/error.ts'
import type { TextGrader } from '../../protocol/openai/graders.ts'
import { readSelection, resolveSelection } from '../../tasks/resolve.ts'
import { formatSelection } from '../../tasks/selection.ts'
import { isAllowedHost } from './http-grader.ts'

const PARAM = 'method.rotation.grader'

/**
 * Checks that a grader can be asked, before a job begins.
 * @returns the grader, a task with the version that is live now: what is learnt must not move
 * @throws {ApiError} 400 naming the field; 404 for a task that is not there
 */
export async function checkGrader(
  env: Bindings,
  projectId: string,
  model: string,
  grader: TextGrader,
): Promise<TextGrader> {
  if (grader.type === 'http') {
    const url = new URL(grader.url)
    if (url.username !== '' || url.password !== '') {
      throw invalidRequest(`Invalid '${PARAM}.url': it must hold no credentials.`, `${PARAM}.url`)
    }
    if (isAllowedHost(grader.url, servicesOf(env).config.graderHosts)) return grader
    throw invalidRequest(
      `Invalid '${PARAM}.url': this gateway may not ask graders at ${url.host}; its operator ` +
        'names the hosts that it may ask in GRADER_HOSTS.',
      `${PARAM}.url`,
      'grader_host_not_allowed',
    )
  }
  if (grader.type !== 'task') return grader
  const param = `${PARAM}.task`
  const terms = readSelection(grader.task, param)
  const { labels, terms: resolved } = await resolveSelection(env.DB, projectId, model, terms, param)
  if (labels === null) {
    throw invalidRequest(`Invalid '${param}': "${grader.task}" has no labels.`, param)
  }
  if (!labels.includes(grader.label)) {
    throw invalidRequest(
      `Invalid '${PARAM}.label': "${grader.task}" has the labels ${labels.join(', ')}.`,
      `${PARAM}.label`,
    )
  }
  const pinned = resolved.map(({ term, version }) => ({ ...term, version: version.number }))
  return { ...grader, task: formatSelection(pinned) }
}
