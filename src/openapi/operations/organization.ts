/** `/v1/organization`, and what needs no key. */
import { z } from 'zod'
import {
  createAdminKeySchema,
  createKeySchema,
  createProjectSchema,
  createServiceAccountSchema,
  organizationPageSchema,
  projectPageSchema,
  rotateKeySchema,
  updateKeySchema,
  updateProjectSchema,
  updateRateLimitSchema,
  usageQuerySchema,
} from '../../protocol/openai/organization.ts'
import { deletedOf, pageOf } from '../answers/common.ts'
import {
  adminKey,
  newServiceAccount,
  project,
  projectKey,
  rateLimit,
  serviceAccount,
  usagePage,
} from '../answers/organization.ts'
import { byId, byProjectAndId, json, type Operation, type RequestBody } from '../operation.ts'

const body = (name: string, schema: z.ZodType): RequestBody => ({ kind: 'json', name, schema })
const PROJECTS = '/v1/organization/projects'
const KEYS = `${PROJECTS}/:project/api_keys`
const ACCOUNTS = `${PROJECTS}/:project/service_accounts`
const ADMIN_KEYS = '/v1/organization/admin_api_keys'

const projects = (
  [
    {
      method: 'GET',
      path: PROJECTS,
      id: 'listProjects',
      summary: 'List projects',
      query: projectPageSchema,
      answer: json('ProjectList', pageOf(project)),
    },
    {
      method: 'POST',
      path: PROJECTS,
      id: 'createProject',
      summary: 'Create a project',
      body: body('CreateProject', createProjectSchema),
      links: byId(
        'project',
        'getProject',
        'updateProject',
        'archiveProject',
        'listKeys',
        'createKey',
        'listServiceAccounts',
        'createServiceAccount',
      ),
      answer: json('Project', project),
    },
    {
      method: 'GET',
      path: `${PROJECTS}/:project`,
      id: 'getProject',
      summary: 'Get a project',
      answer: json('Project', project),
    },
    {
      method: 'POST',
      path: `${PROJECTS}/:project`,
      id: 'updateProject',
      summary: 'Rename a project',
      body: body('UpdateProject', updateProjectSchema),
      answer: json('Project', project),
    },
    {
      method: 'POST',
      path: `${PROJECTS}/:project/archive`,
      id: 'archiveProject',
      summary: 'Archive a project',
      answer: json('Project', project),
    },
    {
      method: 'GET',
      path: `${PROJECTS}/:project/rate_limits`,
      id: 'listRateLimits',
      summary: 'List the limits of a project and of its keys',
      query: organizationPageSchema,
      answer: json('RateLimitList', pageOf(rateLimit)),
    },
    {
      method: 'POST',
      path: `${PROJECTS}/:project/rate_limits/:rateLimit`,
      id: 'updateRateLimit',
      summary: 'Change the limits of a project or of a key',
      body: body('UpdateRateLimit', updateRateLimitSchema),
      answer: json('RateLimit', rateLimit),
    },
  ] as const satisfies readonly Omit<Operation, 'tag'>[]
).map((operation): Operation => ({ ...operation, tag: 'Projects' }))

const keys = (
  [
    {
      method: 'GET',
      path: KEYS,
      id: 'listKeys',
      summary: "List a project's keys",
      query: organizationPageSchema,
      answer: json('ProjectKeyList', pageOf(projectKey)),
    },
    {
      method: 'POST',
      path: KEYS,
      id: 'createKey',
      summary: 'Create a key',
      body: body('CreateKey', createKeySchema),
      links: byProjectAndId('getKey', 'updateKey', 'rotateKey', 'revokeKey'),
      answer: json('ProjectKey', projectKey),
    },
    {
      method: 'GET',
      path: `${KEYS}/:key`,
      id: 'getKey',
      summary: 'Get a key',
      answer: json('ProjectKey', projectKey),
    },
    {
      method: 'POST',
      path: `${KEYS}/:key`,
      id: 'updateKey',
      summary: 'Change a key',
      body: body('UpdateKey', updateKeySchema),
      answer: json('ProjectKey', projectKey),
    },
    {
      method: 'POST',
      path: `${KEYS}/:key/rotate`,
      id: 'rotateKey',
      summary: 'Replace a key',
      body: body('RotateKey', rotateKeySchema),
      answer: json('ProjectKey', projectKey),
    },
    {
      method: 'DELETE',
      path: `${KEYS}/:key`,
      id: 'revokeKey',
      summary: 'Revoke a key',
      answer: json('RevokedKey', deletedOf('organization.project.api_key.deleted')),
    },
    {
      method: 'GET',
      path: ACCOUNTS,
      id: 'listServiceAccounts',
      summary: "List a project's service accounts",
      query: organizationPageSchema,
      answer: json('ServiceAccountList', pageOf(serviceAccount)),
    },
    {
      method: 'POST',
      path: ACCOUNTS,
      id: 'createServiceAccount',
      summary: 'Create a service account with its key',
      body: body('CreateServiceAccount', createServiceAccountSchema),
      links: byProjectAndId('getServiceAccount', 'deleteServiceAccount'),
      answer: json('NewServiceAccount', newServiceAccount),
    },
    {
      method: 'GET',
      path: `${ACCOUNTS}/:key`,
      id: 'getServiceAccount',
      summary: 'Get a service account',
      answer: json('ServiceAccount', serviceAccount),
    },
    {
      method: 'DELETE',
      path: `${ACCOUNTS}/:key`,
      id: 'deleteServiceAccount',
      summary: 'Delete a service account and its key',
      answer: json(
        'DeletedServiceAccount',
        deletedOf('organization.project.service_account.deleted'),
      ),
    },
    {
      method: 'GET',
      path: ADMIN_KEYS,
      id: 'listAdminKeys',
      summary: 'List admin keys',
      query: organizationPageSchema,
      answer: json('AdminKeyList', pageOf(adminKey)),
    },
    {
      method: 'POST',
      path: ADMIN_KEYS,
      id: 'createAdminKey',
      summary: 'Create an admin key',
      body: body('CreateAdminKey', createAdminKeySchema),
      links: byId('key', 'getAdminKey', 'revokeAdminKey'),
      answer: json('AdminKey', adminKey),
    },
    {
      method: 'GET',
      path: `${ADMIN_KEYS}/:key`,
      id: 'getAdminKey',
      summary: 'Get an admin key',
      answer: json('AdminKey', adminKey),
    },
    {
      method: 'DELETE',
      path: `${ADMIN_KEYS}/:key`,
      id: 'revokeAdminKey',
      summary: 'Revoke an admin key',
      answer: json('RevokedAdminKey', deletedOf('organization.admin_api_key.deleted')),
    },
  ] as const satisfies readonly Omit<Operation, 'tag'>[]
).map((operation): Operation => ({ ...operation, tag: 'Keys' }))

export const organization: readonly Operation[] = [
  ...projects,
  ...keys,
  {
    method: 'GET',
    path: '/v1/organization/usage/completions',
    id: 'getUsage',
    tag: 'Usage',
    summary: "Sum the organisation's usage by time",
    query: z.object(usageQuerySchema.shape),
    answer: json('UsagePage', usagePage),
  },
]

export const withoutKey: readonly Operation[] = [
  {
    method: 'GET',
    path: '/',
    id: 'getGateway',
    tag: 'Gateway',
    summary: 'Name the gateway',
    answer: json(
      'Gateway',
      z.object({ name: z.string(), api: z.string(), health: z.string(), docs: z.string() }),
    ),
    isPublic: true,
  },
  {
    method: 'GET',
    path: '/healthz',
    id: 'getHealth',
    tag: 'Gateway',
    summary: 'Say whether the gateway can serve requests',
    answer: json(
      'Health',
      z.object({
        status: z.literal('ok'),
        models: z.array(z.object({ id: z.string(), ready_runners: z.int() })),
      }),
    ),
    errors: [503],
    isPublic: true,
  },
  {
    method: 'GET',
    path: '/openapi.json',
    id: 'getDocument',
    tag: 'Gateway',
    summary: 'This document',
    answer: { kind: 'object', schema: { type: 'object' } },
    isPublic: true,
  },
  {
    method: 'GET',
    path: '/docs',
    id: 'getReference',
    tag: 'Gateway',
    summary: 'This document as a page',
    answer: { kind: 'html' },
    isPublic: true,
  },
]
