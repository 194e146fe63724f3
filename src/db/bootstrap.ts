/**
 * The statements that make an organisation, a project and its first key. Plain SQL, so that the local
 * supervisor can run them from Node on Miniflare's D1 binding before the gateway has a key to ask for:
 *
 *     const hash = sha256hex(key)
 *     await db.batch(bootstrapStatements('local', hash).map((s) => db.prepare(s.sql).bind(...s.params)))
 */
import { KEY_SCOPES, type KeyScope } from '../protocol/key-scopes.ts'

export type Statement = { readonly sql: string; readonly params: readonly (string | number)[] }

/** The organisation of what was made before there were any (migrations/0003_tenants.sql). */
const DEFAULT_ORGANIZATION = 'org-default'

/**
 * @param projectId any stable id; running it again is harmless
 * @param keyHash SHA-256 of the key's UTF-8 bytes, lower-case hex; the key may do everything
 */
export function bootstrapStatements(
  projectId: string,
  keyHash: string,
  options: {
    readonly organizationId?: string
    readonly scopes?: readonly KeyScope[]
    readonly nowMs?: number
  } = {},
): readonly Statement[] {
  const { organizationId = DEFAULT_ORGANIZATION, scopes = KEY_SCOPES, nowMs = Date.now() } = options
  return [
    {
      sql:
        'INSERT INTO organizations (id, name, created_at_ms) VALUES (?, ?, ?) ' +
        'ON CONFLICT (id) DO NOTHING',
      params: [organizationId, organizationId, nowMs],
    },
    {
      sql:
        'INSERT INTO projects (id, organization_id, name, created_at_ms) VALUES (?, ?, ?, ?) ' +
        'ON CONFLICT (id) DO NOTHING',
      params: [projectId, organizationId, projectId, nowMs],
    },
    {
      // A key named again in ARCANA_API_KEY after it was revoked or moved belongs to this project.
      sql:
        'INSERT INTO keys (hash, id, organization_id, project_id, name, prefix, scopes, created_at_ms) ' +
        "VALUES (?, 'key_' || lower(hex(randomblob(12))), ?, ?, ?, '', ?, ?) " +
        'ON CONFLICT (hash) DO UPDATE SET organization_id = excluded.organization_id, ' +
        'project_id = excluded.project_id, scopes = excluded.scopes, revoked_at_ms = NULL, ' +
        'expires_at_ms = NULL',
      params: [keyHash, organizationId, projectId, 'bootstrap', JSON.stringify(scopes), nowMs],
    },
  ]
}
