import { escapeIdentifier } from 'pg'
import { FORMER_RECORDS, RECORDS } from './migration-records.ts'
import { UnfitSession } from './server.ts'
import type { SessionClient } from './session.ts'

/**
 * Makes the schema where it is missing. PostgreSQL asks for the right to create schemas also when
 * there is nothing to create.
 * @throws UnfitSession when the role may not
 */
export async function makeSchema(client: SessionClient, schema: string): Promise<void> {
  if (await isThere(client, schema)) return refuseWithoutUsage(client, schema)
  const { rows } = await client.query<{ user: string; may: boolean }>(
    `select current_user as "user", has_database_privilege(current_database(), 'create') as may`
  )
  const [{ user, may }] = rows as [(typeof rows)[0]]
  if (!may) {
    throw new UnfitSession(
      `the schema ${schema} is missing, and the role ${user} may not create schemas in the database ${client.database}: ` +
        `expected "grant create on database ${client.database} to ${user}", or "create schema ${schema} authorization ${user}"`
    )
  }
  await client.query(`create schema if not exists ${escapeIdentifier(schema)}`)
}

export async function isThere(client: SessionClient, schema: string): Promise<boolean> {
  return (await client.query('select from pg_namespace where nspname = $1', [schema])).rowCount! > 0
}

/**
 * A schema that is missing may be used.
 * @throws UnfitSession when the role may not
 */
export async function refuseWithoutUsage(client: SessionClient, schema: string): Promise<void> {
  const { rows } = await client.query<{ user: string }>(
    `select current_user as "user" from pg_namespace
    where nspname = $1 and not has_schema_privilege(oid, 'usage')`,
    [schema]
  )
  const [refused] = rows
  if (!refused) return
  throw new UnfitSession(
    `the role ${refused.user} may not use the schema ${schema}: expected "grant usage on schema ${schema} to ${refused.user}", and "create" with it for who migrates`
  )
}

/**
 * Sees to it that tables can be made in the schema.
 * @throws UnfitSession when the role may not
 */
export async function refuseWithoutCreate(client: SessionClient, schema: string): Promise<void> {
  const { rows } = await client.query<{ user: string; may: boolean }>(
    `select current_user as "user", has_schema_privilege($1, 'create') as may`,
    [schema]
  )
  const [{ user, may }] = rows as [(typeof rows)[0]]
  if (may) return
  throw new UnfitSession(
    `the role ${user} may not make tables in the schema ${schema}, where migrations are pending: ` +
      `expected "grant create on schema ${schema} to ${user}", or migrations that somebody else has run, who may`
  )
}

/**
 * Looks for tables that another role has made: each of them is at least read and added to.
 * @throws UnfitSession naming the first that the role may not use
 */
export async function refuseMissingRights(client: SessionClient, schema: string): Promise<void> {
  const { rows } = await client.query<{ user: string; name: string }>(
    `select current_user as "user", relname as name from pg_class
    where relnamespace = to_regnamespace($1) and relkind in ('r', 'p') and relname not in ('${RECORDS}', '${FORMER_RECORDS}')
      and not (has_table_privilege(oid, 'select') and has_table_privilege(oid, 'insert')) order by relname limit 1`,
    [escapeIdentifier(schema)]
  )
  if (rows.length === 0) return
  const [{ user, name }] = rows as [(typeof rows)[0]]
  throw new UnfitSession(
    `the role ${user} may not read and write the table ${name} of the schema ${schema}, which another role has made: ` +
      `expected "grant select, insert, update, delete on all tables in schema ${schema} to ${user}" and "grant usage on all sequences in schema ${schema} to ${user}"`
  )
}
