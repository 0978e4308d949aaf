import type { ClientBase } from 'pg'

/** One thing of a schema: a table, a column, an index, a constraint, a trigger or a function. */
export interface Part {
  kind: string
  table: string | null
  name: string
  /** As PostgreSQL writes it, without the schema's name. */
  definition: string
  /** Whether it may refuse rows that would be taken without it. */
  refuses: boolean
}

const PARTS = `
  with tables as (
    select oid, relname from pg_class
    where relnamespace = to_regnamespace($1) and relkind in ('r', 'p')
  )
  select 'table' as kind, null as table, relname as name, 'table' as definition, false as refuses
  from tables
  union all
  select 'column', relname, attname,
    concat_ws(' ', format_type(atttypid, atttypmod), case when attnotnull then 'not null' end,
      'default ' || pg_get_expr(adbin, adrelid),
      case attidentity when 'a' then 'identity, always' when 'd' then 'identity' end,
      case when attgenerated <> '' then 'generated' end),
    attnotnull and adbin is null and attidentity = ''
  from tables
  join pg_attribute on attrelid = tables.oid and attnum > 0 and not attisdropped
  left join pg_attrdef on adrelid = attrelid and adnum = attnum
  union all
  select 'index', tables.relname, made.relname,
    pg_get_indexdef(indexrelid) || case when indisvalid then '' else ' (invalid)' end, indisunique
  from tables
  join pg_index on indrelid = tables.oid
  join pg_class made on made.oid = indexrelid
  union all
  select 'constraint', relname, conname, pg_get_constraintdef(pg_constraint.oid), true
  from tables
  join pg_constraint on conrelid = tables.oid and contype in ('c', 'f', 'p', 'u', 'x')
  union all
  select 'trigger', relname, tgname, pg_get_triggerdef(pg_trigger.oid), true
  from tables
  join pg_trigger on tgrelid = tables.oid and not tgisinternal
  union all
  select 'function', null, proname, pg_get_functiondef(pg_proc.oid), false
  from pg_proc
  where pronamespace = to_regnamespace($1) and prokind in ('f', 'p')`

/** All parts of a schema. The caller has set the search path to it, inside a transaction. */
export async function readCatalog(client: ClientBase, schema: string): Promise<Part[]> {
  const { rows } = await client.query<Part>(PARTS, [client.escapeIdentifier(schema)])
  const written = [`${schema}.`, `${client.escapeIdentifier(schema)}.`]
  return rows.map((part) => ({
    ...part,
    definition: written.reduce((text, prefix) => text.replaceAll(prefix, ''), part.definition)
  }))
}

export interface Drift {
  missing: Part[]
  different: { expected: Part; found: Part }[]
  /** What no migration has made, and may refuse rows. */
  refusing: Part[]
}

export function compareCatalogs(expected: readonly Part[], found: readonly Part[]): Drift {
  const there = new Map(found.map((part) => [keyOf(part), part]))
  const wanted = new Map(expected.map((part) => [keyOf(part), part]))
  const tables = new Set(expected.filter(({ kind }) => kind === 'table').map(({ name }) => name))
  const gone = new Set([...tables].filter((name) => !there.has(`table  ${name}`)))
  return {
    // What is missing with its table needs no words of its own.
    missing: expected.filter(
      (part) => !there.has(keyOf(part)) && !(part.table !== null && gone.has(part.table))
    ),
    different: expected.flatMap((part) => {
      const other = there.get(keyOf(part))
      return other && other.definition !== part.definition ? [{ expected: part, found: other }] : []
    }),
    refusing: found.filter(
      (part) =>
        part.refuses &&
        part.table !== null &&
        tables.has(part.table) &&
        !wanted.has(keyOf(part)) &&
        // A constraint's index has its name.
        !(part.kind === 'index' && there.has(`constraint ${part.table} ${part.name}`))
    )
  }
}

function keyOf({ kind, table, name }: Part): string {
  return `${kind} ${table ?? ''} ${name}`
}
