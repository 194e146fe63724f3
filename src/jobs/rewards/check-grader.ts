import { servicesOf } from '../../services.ts'
import type { Bindings } from '../../env.ts'
import { invalidField } from '../../protocol/openai/error.ts'
import type { TextGrader } from '../../protocol/openai/graders.ts'
import { readSelection, resolveSelection } from '../../tasks/resolve.ts'
import { formatSelection } from '../../tasks/selection.ts'
import { isAllowedHost } from './http-grader.ts'

const PARAM = 'method.rotation.grader'

/**
 * Checks, before a job begins, that its grader can be asked.
 * @returns the grader. A task gets the number of its live version, so that the grader stays the same
 * while the job runs.
 * @throws {ApiError} 400 naming the field; 404 for a task that does not exist
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
      throw invalidField(`${PARAM}.url`, 'it must not contain credentials')
    }
    if (isAllowedHost(grader.url, servicesOf(env).config.graderHosts)) return grader
    throw invalidField(
      `${PARAM}.url`,
      `this gateway may not ask graders at ${url.host}; its operator names the allowed hosts in ` +
        'GRADER_HOSTS',
      'grader_host_not_allowed',
    )
  }
  if (grader.type !== 'task') return grader
  const param = `${PARAM}.task`
  const terms = readSelection(grader.task, param)
  const { labels, terms: resolved } = await resolveSelection(env.DB, projectId, model, terms, param)
  if (labels === null) {
    throw invalidField(param, `"${grader.task}" has no labels`)
  }
  if (!labels.includes(grader.label)) {
    throw invalidField(`${PARAM}.label`, `"${grader.task}" has the labels ${labels.join(', ')}`)
  }
  const pinned = resolved.map(({ term, version }) => ({ ...term, version: version.number }))
  return { ...grader, task: formatSelection(pinned) }
}
