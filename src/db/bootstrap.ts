/**
 * The statements that make a project and its first key. They are plain SQL, so that `npm start` can
 * run them from Node on Miniflare's D1 binding, before any key exists:
 *
 *     const hash = sha256hex(key)
 *     await db.batch(bootstrapStatements('local', hash).map((s) => db.prepare(s.sql).bind(...s.params)))
 */
export type Statement = { readonly sql: string; readonly params: readonly (string | number)[] }

/**
 * @param projectId any stable id; the statements may run again for the same one
 * @param keyHash SHA-256 of the key's UTF-8 bytes, lower-case hex
 */
export function bootstrapStatements(
  projectId: string,
  keyHash: string,
  nowMs: number = Date.now(),
): readonly Statement[] {
  return [
    {
      sql: 'INSERT INTO projects (id, name, created_at_ms) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING',
      params: [projectId, projectId, nowMs],
    },
    {
      // ARCANA_API_KEY may name a revoked key, or one of another project: it then belongs to this one.
      sql:
        'INSERT INTO keys (hash, project_id, name, created_at_ms) VALUES (?, ?, ?, ?) ' +
        'ON CONFLICT (hash) DO UPDATE SET project_id = excluded.project_id, revoked_at_ms = NULL',
      params: [keyHash, projectId, 'bootstrap', nowMs],
    },
  ]
}
