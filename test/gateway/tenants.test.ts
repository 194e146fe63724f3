import { beforeAll, describe, it } from 'vitest'
import { createApp } from '../../src/app.ts'
import { accepted } from './fresh-project.ts'
import { clientOf, makeProject, MODEL, publishTask, type Client } from './harness.ts'
import { RunnerDouble } from './runner-double.ts'

/** What one tenant has, by the name that stands for it below. */
type Names = {
  readonly file: string
  readonly job: string
  readonly batch: string
  readonly experiment: string
  readonly task: string
  readonly project: string
  readonly key: string
}
type Body = Record<string, unknown>
type Recipe = { readonly path: (names: Names) => string; readonly body?: (names: Names) => Body }

/** Over before the first stranger asks. */
const SMALL_JOB = {
  type: 'rotation',
  rotation: { hyperparameters: { optimizer: 'random', n_trials: 2 } },
}

/** They differ between any two requests: an id, and a measured time. */
const OF_EACH_REQUEST = new Set(['x-request-id', 'x-arcana-gateway-ms'])

/** A name that nothing has, of the same length and characters as those of another tenant. */
const ABSENT: Names = {
  file: `file-${'0'.repeat(32)}`,
  job: `ftjob-${'0'.repeat(32)}`,
  batch: `batch_${'0'.repeat(32)}`,
  experiment: `exp_${'0'.repeat(32)}`,
  task: 'nobodys-task',
  project: 'p-00000000-0000-0000-0000-000000000000',
  key: `key_${'0'.repeat(24)}`,
}

const chat = (model: string): Body => ({ model, messages: [{ role: 'user', content: 'Hi' }] })
const job = ({ file }: Names): Body => ({ model: MODEL, training_file: file })

/** A way to ask for another tenant's things by every route that takes a name. */
const RECIPES: Readonly<Record<string, Recipe>> = {
  'GET /v1/files/:id': { path: ({ file }) => `/v1/files/${file}` },
  'GET /v1/files/:id/content': { path: ({ file }) => `/v1/files/${file}/content` },
  'DELETE /v1/files/:id': { path: ({ file }) => `/v1/files/${file}` },
  'POST /v1/fine_tuning/jobs': { path: () => '/v1/fine_tuning/jobs', body: job },
  'GET /v1/fine_tuning/jobs/:id': { path: ({ job }) => `/v1/fine_tuning/jobs/${job}` },
  'GET /v1/fine_tuning/jobs/:id/events': {
    path: ({ job }) => `/v1/fine_tuning/jobs/${job}/events`,
  },
  'GET /v1/fine_tuning/jobs/:id/checkpoints': {
    path: ({ job }) => `/v1/fine_tuning/jobs/${job}/checkpoints`,
  },
  'POST /v1/fine_tuning/jobs/:id/cancel': {
    path: ({ job }) => `/v1/fine_tuning/jobs/${job}/cancel`,
  },
  'POST /v1/fine_tuning/jobs/:id/publish': {
    path: ({ job }) => `/v1/fine_tuning/jobs/${job}/publish`,
    body: () => ({ force: true }),
  },
  'POST /v1/batches': {
    path: () => '/v1/batches',
    body: ({ file }) => ({
      input_file_id: file,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    }),
  },
  'GET /v1/batches/:id': { path: ({ batch }) => `/v1/batches/${batch}` },
  'POST /v1/batches/:id/cancel': { path: ({ batch }) => `/v1/batches/${batch}/cancel` },
  'GET /v1/models/:id': { path: ({ task }) => `/v1/models/${MODEL}:${task}` },
  'DELETE /v1/models/:id': { path: ({ task }) => `/v1/models/${MODEL}:${task}` },
  'GET /v1/tasks/:name': { path: ({ task }) => `/v1/tasks/${task}` },
  'DELETE /v1/tasks/:name': { path: ({ task }) => `/v1/tasks/${task}` },
  'POST /v1/tasks/:name/promote': {
    path: ({ task }) => `/v1/tasks/${task}/promote`,
    body: () => ({ version: 1, expected_live: 1 }),
  },
  'POST /v1/tasks/:name/rollback': {
    path: ({ task }) => `/v1/tasks/${task}/rollback`,
    body: () => ({ expected_live: 1 }),
  },
  'GET /v1/tasks/:name/versions': { path: ({ task }) => `/v1/tasks/${task}/versions` },
  'GET /v1/tasks/:name/versions/:version': {
    path: ({ task }) => `/v1/tasks/${task}/versions/1`,
  },
  'POST /v1/tasks/:name/versions/:version': {
    path: ({ task }) => `/v1/tasks/${task}/versions/1`,
    body: () => ({ notes: 'mine now' }),
  },
  'POST /v1/tasks/:name/versions/:version/retire': {
    path: ({ task }) => `/v1/tasks/${task}/versions/1/retire`,
    body: () => ({ grace_seconds: 0 }),
  },
  'GET /v1/tasks/:name/versions/:version/adapter': {
    path: ({ task }) => `/v1/tasks/${task}/versions/1/adapter`,
  },
  'POST /v1/chat/completions': {
    path: () => '/v1/chat/completions',
    body: ({ task }) => chat(`${MODEL}:${task}`),
  },
  'POST /v1/completions': {
    path: () => '/v1/completions',
    body: ({ task }) => ({ model: `${MODEL}:${task}@1`, prompt: 'Hi' }),
  },
  'POST /v1/responses': {
    path: () => '/v1/responses',
    body: ({ task }) => ({ model: `${MODEL}:${task}`, input: 'Hi' }),
  },
  'POST /v1/compare': {
    path: () => '/v1/compare',
    body: ({ task }) => ({ ...chat(MODEL), arms: ['base', task] }),
  },
  'POST /v1/experiments': {
    path: () => '/v1/experiments',
    body: ({ file, task }) => ({ file, arms: ['base', task] }),
  },
  'GET /v1/experiments/:id': { path: ({ experiment }) => `/v1/experiments/${experiment}` },
  'DELETE /v1/experiments/:id': { path: ({ experiment }) => `/v1/experiments/${experiment}` },
  ...Object.fromEntries(
    (
      [
        ['GET', ''],
        ['POST', '', { name: 'x' }],
        ['POST', '/archive'],
        ['GET', '/api_keys'],
        ['POST', '/api_keys', { name: 'x' }],
        ['GET', '/service_accounts'],
        ['POST', '/service_accounts', { name: 'x' }],
        ['GET', '/rate_limits'],
      ] as [string, string, Body?][]
    ).map(([method, rest, body]): [string, Recipe] => [
      `${method} /v1/organization/projects/:project${rest}`,
      {
        path: ({ project }) => `/v1/organization/projects/${project}${rest}`,
        ...(body === undefined ? {} : { body: () => body }),
      },
    ]),
  ),
  ...Object.fromEntries(
    (
      [
        ['GET', 'api_keys', ''],
        ['POST', 'api_keys', '', { name: 'x' }],
        ['POST', 'api_keys', '/rotate', {}],
        ['DELETE', 'api_keys', ''],
        ['GET', 'service_accounts', ''],
        ['DELETE', 'service_accounts', ''],
      ] as [string, string, string, Body?][]
    ).map(([method, kind, rest, body]): [string, Recipe] => [
      `${method} /v1/organization/projects/:project/${kind}/:key${rest}`,
      {
        path: ({ project, key }) => `/v1/organization/projects/${project}/${kind}/${key}${rest}`,
        ...(body === undefined ? {} : { body: () => body }),
      },
    ]),
  ),
  'POST /v1/organization/projects/:project/rate_limits/:rateLimit': {
    path: ({ project, key }) => `/v1/organization/projects/${project}/rate_limits/rl-${key}`,
    body: () => ({ max_requests_per_1_minute: 1 }),
  },
  'GET /v1/organization/admin_api_keys/:key': {
    path: ({ key }) => `/v1/organization/admin_api_keys/${key}`,
  },
  'DELETE /v1/organization/admin_api_keys/:key': {
    path: ({ key }) => `/v1/organization/admin_api_keys/${key}`,
  },
}

/** Routes that name nothing: lists, which must hold nothing of another tenant, and what makes things. */
const LISTS = [
  '/v1/files',
  '/v1/fine_tuning/jobs',
  '/v1/batches',
  '/v1/experiments',
  '/v1/models',
  '/v1/tasks',
  '/v1/organization/projects',
  '/v1/organization/admin_api_keys',
  '/v1/organization/usage/completions',
]
const NAMELESS = [
  'GET /',
  'GET /healthz',
  'GET /docs',
  'GET /openapi.json',
  'POST /v1/files',
  'POST /v1/organization/projects',
  'POST /v1/organization/admin_api_keys',
  'POST /tokenize',
  'POST /detokenize',
  'GET /tokenizer_info',
  'POST /v1/tasks/:name/versions',
]

describe('a foreign key', () => {
  let names: Names
  let owner: Client
  let stranger: Client
  beforeAll(async () => {
    new RunnerDouble().install()
    const own = await makeProject({ organizationId: 'org-own' })
    owner = clientOf(own.key)
    const form = new FormData()
    form.append(
      'file',
      new File(['{"input":"a","label":"World"}\n{"input":"c","label":"Sports"}'], 'a.jsonl'),
    )
    form.append('purpose', 'fine-tune')
    const file = (await accepted<{ id: string }>(owner.call('POST', '/v1/files', form))).id
    await publishTask(own.projectId, 'their-task')
    const keys = `/v1/organization/projects/${own.projectId}/api_keys`
    const key = (await accepted<{ id: string }>(owner.call('POST', keys, { name: 'k' }))).id
    const jobs = '/v1/fine_tuning/jobs'
    const made = await accepted<{ id: string }>(
      owner.call('POST', jobs, { model: MODEL, training_file: file, method: SMALL_JOB }),
    )
    const requests = new FormData()
    const request = {
      custom_id: 'a',
      method: 'POST',
      url: '/v1/chat/completions',
      body: chat(MODEL),
    }
    requests.append('file', new File([JSON.stringify(request)], 'a.jsonl'))
    requests.append('purpose', 'batch')
    const input = (await accepted<{ id: string }>(owner.call('POST', '/v1/files', requests))).id
    const batch = await accepted<{ id: string }>(
      owner.call('POST', '/v1/batches', {
        input_file_id: input,
        endpoint: request.url,
        completion_window: '24h',
      }),
    )
    const experiment = await accepted<{ id: string }>(
      owner.call('POST', '/v1/experiments', { file, arms: ['base', 'their-task'] }),
    )
    names = {
      file,
      job: made.id,
      batch: batch.id,
      experiment: experiment.id,
      task: 'their-task',
      project: own.projectId,
      key,
    }
    stranger = clientOf((await makeProject({ organizationId: 'org-other' })).key)
  })

  const routes = [
    ...new Set(
      createApp()
        .routes.filter(({ method }) => method !== 'ALL')
        .map(({ method, path }) => `${method} ${path}`),
    ),
  ]

  it('is tried on every route that there is', ({ expect }) => {
    const tried = [...Object.keys(RECIPES), ...LISTS.map((path) => `GET ${path}`), ...NAMELESS]
    expect([...routes].sort()).toEqual([...tried].sort())
  })

  it('is told the same of what another tenant has as of what nobody has', async ({ expect }) => {
    const clean = (text: string): string =>
      Object.entries(names).reduce(
        (rest, [kind, name]) => rest.replaceAll(name, ABSENT[kind as keyof Names]),
        text.replace(/req_[0-9a-f]{32}/g, 'req_'),
      )
    const seenOf = async ({ path, body }: Recipe, method: string, of: Names) => {
      const response = await stranger.call(method, path(of), body?.(of))
      const headers = [...response.headers].filter(([name]) => !OF_EACH_REQUEST.has(name))
      return { status: response.status, headers, text: clean(await response.text()) }
    }
    for (const [route, recipe] of Object.entries(RECIPES)) {
      const method = route.split(' ')[0]!
      const foreign = await seenOf(recipe, method, names)
      const absent = await seenOf(recipe, method, ABSENT)
      expect({ route, ...foreign }).toEqual({ route, ...absent })
      expect([route, foreign.status]).toEqual([
        route,
        /^POST \/v1\/(fine_tuning\/jobs|batches)$/.test(route) ? 400 : 404,
      ])
    }
  })

  it('lists nothing of another tenant', async ({ expect }) => {
    for (const path of LISTS) {
      const query = path.endsWith('completions')
        ? `?start_time=1&bucket_width=1d&limit=1&project_ids[]=${names.project}`
        : ''
      const response = await stranger.call('GET', `${path}${query}`)
      expect([path, response.status]).toEqual([path, 200])
      const text = await response.text()
      for (const name of Object.values(names)) expect(text).not.toContain(name)
    }
    // Nor does it page on from another's row.
    for (const [path, after] of [
      ['/v1/files', names.file],
      ['/v1/fine_tuning/jobs', names.job],
      ['/v1/batches', names.batch],
      ['/v1/organization/projects', names.project],
    ] as const) {
      const foreign = await stranger.call('GET', `${path}?after=${after}`)
      const absent = await stranger.call('GET', `${path}?after=nothing`)
      expect([foreign.status, await foreign.text()]).toEqual([absent.status, await absent.text()])
    }
  })

  it('changed nothing: the owner finds all of it as it was', async ({ expect }) => {
    const { file, job: jobId, batch, task, project, key } = names
    for (const path of [
      `/v1/files/${file}/content`,
      `/v1/fine_tuning/jobs/${jobId}`,
      `/v1/batches/${batch}`,
      `/v1/tasks/${task}`,
      `/v1/organization/projects/${project}`,
      `/v1/organization/projects/${project}/api_keys/${key}`,
    ]) {
      expect([path, (await owner.call('GET', path)).status]).toEqual([path, 200])
    }
    const own = await accepted<{ live_version: number }>(owner.call('GET', `/v1/tasks/${task}`))
    expect(own.live_version).toBe(1)
  })

  it("does not publish into another tenant's task of the same name", async ({ expect }) => {
    const other = await makeProject({ organizationId: 'org-other' })
    await publishTask(other.projectId, names.task, { labels: ['Mine', 'Yours'] })
    const answer = await clientOf(other.key).chat({ model: `${MODEL}:${names.task}` })
    expect(answer.status).toBe(200)
    expect(['Mine', 'Yours']).toContain(
      (await answer.json<{ choices: { message: { content: string } }[] }>()).choices[0]!.message
        .content,
    )
  })
})
