import { escapeIdentifier, escapeLiteral, type ClientBase } from 'pg'
import type { Migration } from './migrations.ts'

/** Where a schema keeps what has run in it. */
export const RECORDS = 'sagabox_migrations'
/** Where 0.1 kept it, by TypeORM. */
export const FORMER_RECORDS = 'migrations'

export function createRecords(schema: string): string {
  return `create table if not exists ${qualified(schema, RECORDS)} (
  id text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
)`
}

/** SQL that records a migration as having run. */
export function record(schema: string, { id, checksum }: Recorded): string {
  return `insert into ${qualified(schema, RECORDS)} (id, checksum) values (${escapeLiteral(id)}, ${escapeLiteral(checksum)})`
}

export type Recorded = Pick<Migration, 'id' | 'checksum'>

/**
 * What 0.1 recorded, as it is recorded now. The checksums are those of today: what ran then is not
 * known any more.
 */
export function takenOver(
  former: readonly Applied[],
  migrations: readonly Migration[]
): Recorded[] {
  const checksums = new Map(migrations.map(({ id, checksum }) => [id, checksum]))
  return former.map(({ id }) => ({ id, checksum: checksums.get(id) ?? 'taken over from 0.1' }))
}

/** A migration that has run. */
export interface Applied {
  id: string
  /** Undefined: 0.1 recorded none. */
  checksum: string | undefined
}

export interface Records {
  applied: Applied[]
  /** They are in the table of 0.1. */
  areFormer: boolean
}

/** Undefined: nothing was ever recorded in the schema. */
export async function readRecords(
  client: ClientBase,
  schema: string
): Promise<Records | undefined> {
  const table = (name: string) => `to_regclass(${client.escapeLiteral(qualified(schema, name))})`
  const { rows } = await client.query<{ own: boolean; former: boolean }>(
    `select ${table(RECORDS)} is not null as own, exists (
      select from pg_attribute where attrelid = ${table(FORMER_RECORDS)} and attname = 'name') as former`
  )
  const [{ own, former }] = rows as [{ own: boolean; former: boolean }]
  if (own) {
    const recorded = await client.query<Applied>(
      `select id, checksum from ${qualified(schema, RECORDS)} order by applied_at, id`
    )
    return { applied: recorded.rows, areFormer: false }
  }
  if (!former) return undefined
  const recorded = await client.query<{ name: unknown }>(
    `select name from ${qualified(schema, FORMER_RECORDS)}`
  )
  const ids = recorded.rows.map(({ name }) => formerId(String(name))).filter((id) => id !== '')
  return ids.length === 0
    ? undefined
    : { applied: ids.map((id) => ({ id, checksum: undefined })), areFormer: true }
}

/** `<name>-0<yyyymmddhhmm>` and `inline-9<number>`, as TypeORM was given them. */
function formerId(name: string): string {
  const [, title, digits] = /^(.+)-0(\d{12})$/.exec(name) ?? []
  if (digits !== undefined) return `${digits}-${title}`
  const [, number] = /^inline-9(\d{12})$/.exec(name) ?? []
  return number === undefined ? '' : `inline-${Number(number)}`
}

function qualified(schema: string, table: string): string {
  return `${escapeIdentifier(schema)}.${table}`
}
