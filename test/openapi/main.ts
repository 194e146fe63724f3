/**
 * `npm run test:openapi [-- OPTION…]`: schemathesis asks a real stack by its OpenAPI document, and
 * finds answers with a status, type, header or body that the document does not have, and any 5xx.
 * Options go to `schemathesis run`.
 */
import { join } from 'node:path'
import { Api, BASE_MODEL, newsSplit } from '../fixtures/api.ts'
import { startStack } from '../fixtures/stack.ts'
import { prepare } from '../clients/environment.ts'
import { runProgram } from '../clients/run-program.ts'

/** Has a live version before schemathesis begins. */
const TASK = 'news'
const JOB_TIMEOUT_MS = 300_000
const TIMEOUT_MS = 1_800_000
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
]
/** The run's own key would end with its project. */
const EXCLUDED = ['archiveProject', 'revokeKey', 'revokeAdminKey', 'deleteServiceAccount']

const { folder } = await prepare('schemathesis', join(import.meta.dirname, 'schemathesis'))
const stack = await startStack()
try {
  const file = await learnTask()
  const { code, output } = await runProgram(
    [
      join(folder, 'venv/bin/schemathesis'),
      'run',
      `${new URL(stack.baseUrl).origin}/openapi.json`,
      `--header=Authorization: Bearer ${stack.apiKey}`,
      `--checks=${CHECKS.join(',')}`,
      ...EXCLUDED.map((id) => `--exclude-operation-id=${id}`),
      '--max-examples=30',
      '--seed=17',
      '--continue-on-failure',
      '--request-timeout=60',
      '--suppress-health-check=all',
      '--no-color',
      ...process.argv.slice(2),
    ],
    {
      cwd: folder,
      timeoutMs: TIMEOUT_MS,
      env: {
        SCHEMATHESIS_HOOKS: 'hooks',
        PYTHONPATH: folder,
        ARCANA_MODEL: BASE_MODEL,
        ARCANA_TASK: TASK,
        ARCANA_FILE: file,
      },
    },
  )
  console.log(output)
  if (code !== 0) process.exitCode = 1
} finally {
  await stack.stop()
}

/** @returns the id of its file */
async function learnTask(): Promise<string> {
  const api = new Api(stack)
  const { id } = await api.upload((await newsSplit()).training)
  const hyperparameters = { optimizer: 'random', n_trials: 2 }
  const job = await api.createJob(TASK, id, { force: true, hyperparameters })
  const { status, error } = await api.untilFinished(job.id, JOB_TIMEOUT_MS)
  if (status !== 'succeeded') throw new Error(`the job ${status}: ${error?.message ?? '?'}`)
  return id
}
